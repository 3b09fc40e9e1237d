"""Every masked-LM family of the installed ``transformers``, small and random: made from its config class alone."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

V, PAD, MASK, FIRST = 61, 1, 4, 7  # ordinary ids are FIRST to V - 1

# Sizes by the names that configs give them; a name that a config lacks is left out.
SIZES: dict[str, Any] = {
    "vocab_size": V, "hidden_size": 32, "d_model": 32, "dim": 32, "emb_dim": 32, "embedding_size": 32, "num_hidden_layers": 2, "n_layers": 2,
    "num_attention_heads": 4, "n_heads": 4, "n_head": 4, "num_key_value_heads": 4, "head_dim": 8, "d_head": 8, "intermediate_size": 48, "hidden_dim": 48,
    "d_inner": 48, "max_position_embeddings": 64, "pad_token_id": PAD, "pad_index": PAD, "mask_token_id": MASK, "mask_index": MASK, "entity_vocab_size": 9,
    "entity_emb_size": 8, "pronunciation_vocab_size": 9, "pronunciation_embed_dim": 8, "shape_vocab_size": 9, "shape_embed_dim": 8, "max_2d_position_embeddings": 16,
    "input_embedding_size": 16, "output_embedding_size": 16, "prediction_head_size": 32, "image_token_id": 3, "image_size": 32, "patch_size": 16,
    "num_latents": 8, "d_latents": 16, "num_self_attends_per_block": 2, "num_self_attention_heads": 2, "num_cross_attention_heads": 2,
    "bos_token_id": 5, "cls_token_id": 5, "eos_token_id": 6, "sep_token_id": 6, "local_attention": 6, "sliding_window": 6,
}  # fmt: skip
# What does not follow from the names: sizes that have to fit each other.
ALSO: dict[str, dict[str, Any]] = {
    "funnel": {"block_sizes": [1, 1, 1]},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8), "attention_head_size": 8, "attn_layers": ["local", "lsh"], "hash_seed": 1,
                 "feed_forward_size": 48, "is_decoder": False, "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8, "num_buckets": 4},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "modernvbert": {"pixel_shuffle_factor": 1},
    "ultravbert": {"pixel_shuffle_factor": 1},
    "longformer": {"attention_window": 8},
    "neomme": {"sliding_window": 6, "head_dim": 16},
    "big_bird": {"attention_type": "original_full"},
}  # fmt: skip


def families() -> list[str]:
    """Model types, in order."""
    return list(MODEL_FOR_MASKED_LM_MAPPING_NAMES)


def small_config(kind: str) -> PreTrainedConfig:
    """A config of the family with small sizes, those of its parts too."""
    default = CONFIG_MAPPING[kind]()
    return type(default)(**{**_small(default), **ALSO.get(kind, {})})


def _small(default: PreTrainedConfig) -> dict[str, Any]:
    known = {*vars(default), *type(default).attribute_map}
    given = {name: size for name, size in SIZES.items() if name in known}
    if "block_sizes" in vars(default):  # layers are counted from these
        given = {name: size for name, size in given.items() if name != "num_hidden_layers"}
    for name, part in vars(default).items():
        if isinstance(part, PreTrainedConfig):
            given[name] = type(part)(**_small(part))
    return given


def small_model(kind: str, seed: int = 0, std: float | None = 0.2) -> Any:
    """A random model of the family, in evaluation mode; matrices have a spread of ``std`` (None = as it starts by itself)."""
    torch.manual_seed(seed)
    config = small_config(kind)
    model = getattr(transformers, MODEL_FOR_MASKED_LM_MAPPING_NAMES[kind])(config).eval()
    if std is not None:
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=std)
    return model
