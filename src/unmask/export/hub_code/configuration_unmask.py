"""Configuration of the masked language models that `unmask export` writes.

This file needs transformers only. It belongs to `modeling_unmask.py`, which needs torch and transformers.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "squared_relu")


class UnmaskConfig(PreTrainedConfig):
    """Sizes and options of a bidirectional encoder with rotary positions.

    Args:
        vocab_size: rows of the embedding, special tokens included.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: width, depth, heads, feed-forward width.
        hidden_act: relu, gelu, gelu_tanh, silu or squared_relu.
        layer_norm_eps: of every LayerNorm.
        dropout: of attention probabilities and of both residual branches.
        rotary_dim: rotated channels of each head; even.
        rotary_base: the longest wavelength is `2 pi rotary_base` positions.
        max_position_embeddings: the longest row.
        causal_block: attention is block-causal in blocks of this many positions; None = bidirectional.
        final_norm: whether a LayerNorm follows the last block.
        next_token_id: id of the token that ends an instruction. Given for instruction traces, None for text.
        max_arguments: rows of the argument embedding of instruction traces.
        tie_word_embeddings: whether the vocabulary projection shares the embedding's weight.
        pad_token_id, mask_token_id, bos_token_id, eos_token_id: special ids, or None.
        classifier_dropout: dropout before the layer of a classification head.
        initializer_range: standard deviation of new weights.
        diffusion: defaults of `diffusion_generate`. Keys: max_new_tokens, steps, temperature, suppress_token_ids
            (ids that are never placed) and character_parts (token id -> hexadecimal bytes, of tokens that are part of a character).

    Raises:
        ValueError: the sizes do not fit together.
    """

    model_type = "unmask"

    def __init__(
        self,
        vocab_size: int = 8192,
        hidden_size: int = 384,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 6,
        intermediate_size: int = 1536,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-5,
        dropout: float = 0.0,
        rotary_dim: int = 64,
        rotary_base: float = 10_000.0,
        max_position_embeddings: int = 1024,
        causal_block: int | None = None,
        final_norm: bool = True,
        next_token_id: int | None = None,
        max_arguments: int = 64,
        tie_word_embeddings: bool = True,
        pad_token_id: int | None = 0,
        mask_token_id: int | None = 1,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        classifier_dropout: float = 0.0,
        initializer_range: float = 0.02,
        diffusion: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size={hidden_size} must be a multiple of num_attention_heads={num_attention_heads}."
            )
        if rotary_dim % 2 or rotary_dim > hidden_size // num_attention_heads:
            raise ValueError(
                f"rotary_dim={rotary_dim} must be even and at most {hidden_size // num_attention_heads}, the size of a head."
            )
        if hidden_act not in ACTIVATIONS:
            raise ValueError(f"There is no activation {hidden_act!r}: choose {', '.join(ACTIVATIONS)}.")
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.layer_norm_eps = layer_norm_eps
        self.dropout = dropout
        self.rotary_dim = rotary_dim
        self.rotary_base = rotary_base
        self.max_position_embeddings = max_position_embeddings
        self.causal_block = causal_block
        self.final_norm = final_norm
        self.next_token_id = next_token_id
        self.max_arguments = max_arguments
        self.tie_word_embeddings = tie_word_embeddings
        self.pad_token_id = pad_token_id
        self.mask_token_id = mask_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.diffusion: dict[str, Any] = dict(diffusion or {})
