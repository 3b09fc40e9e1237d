"""Small folders of diffusion language models with their own code, each with the interface that its authors published."""

import json
from pathlib import Path

import torch
import transformers

from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.models.shift_evidence import TEXT

SENTENCES = [
    TEXT,
    "the cat sees a house. a dog likes old trees.",
] * 4

BLOCK = '''
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput


class Layer(nn.Module):
    """Attention and a feed-forward layer, with rotary positions."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def rotate(self, x, positions):
        half = x.shape[-1] // 2
        angles = positions[:, None, :, None].float() * 100.0 ** (-torch.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)

    def forward(self, x, mask, positions):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.rotate(q, positions), self.rotate(k, positions)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def counted(ids):
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)

'''

LLADA = """
from .configuration_own import LLaDAConfig


class LLaDAModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.embedding_size, config.d_model),
            "blocks": nn.ModuleList(Layer(config.d_model, config.n_heads) for _ in range(config.n_layers)),
            "ff_out": nn.Linear(config.d_model, config.embedding_size, bias=False),
        })

    def forward(self, input_ids, inputs_embeds=None, attention_mask=None):
        x = self.transformer.wte(input_ids) if inputs_embeds is None else inputs_embeds
        for block in self.transformer.blocks:
            x = block(x, None, counted(input_ids))
        return MaskedLMOutput(logits=self.transformer.ff_out(x))


class LLaDAModelLM(PreTrainedModel):
    config_class = LLaDAConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = LLaDAModel(config)
        self.post_init()

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, attention_bias=None, use_cache=None,
                output_hidden_states=None, return_dict=None):
        return MaskedLMOutput(logits=self.model(input_ids, inputs_embeds, attention_mask).logits)

    def can_generate(self):
        return True

    def get_input_embeddings(self):
        return self.model.transformer.wte

    def get_output_embeddings(self):
        return self.model.transformer.ff_out
"""

DREAM = """
from .configuration_own import DreamConfig


class DreamBaseModel(PreTrainedModel):
    config_class = DreamConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config.hidden_size, config.num_attention_heads) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, return_dict=None):
        if attention_mask is not None and attention_mask.dim() != 4:
            raise ValueError("attention_mask has four dimensions")
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, attention_mask, counted(input_ids) if position_ids is None else position_ids)
        return BaseModelOutput(last_hidden_state=self.norm(x))


class DreamModel(PreTrainedModel):
    config_class = DreamConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = DreamBaseModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, return_dict=None):
        states = self.model(input_ids, attention_mask, position_ids).last_hidden_state
        return MaskedLMOutput(logits=self.lm_head(states))

    def get_output_embeddings(self):
        return self.lm_head
"""

LLADA2 = """
from .configuration_own import LLaDA2MoeConfig


class LLaDA2MoeModel(PreTrainedModel):
    config_class = LLaDA2MoeConfig

    def __init__(self, config):
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(
            Layer(config.hidden_size, config.num_attention_heads) for _ in range(config.num_hidden_layers)
        )
        self.post_init()

    def get_input_embeddings(self):
        return self.word_embeddings

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, return_dict=None):
        rows, length = input_ids.shape
        if attention_mask is None or attention_mask.shape != (rows, 1, length, length):
            raise ValueError("only block masks of four dimensions are supported")
        if attention_mask.max() != 0:
            raise ValueError("a mask in inverted form is expected")
        x = self.word_embeddings(input_ids)
        for layer in self.layers:
            x = layer(x, attention_mask, counted(input_ids) if position_ids is None else position_ids)
        return BaseModelOutput(last_hidden_state=x)


class LLaDA2MoeModelLM(PreTrainedModel):
    config_class = LLaDA2MoeConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = LLaDA2MoeModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, return_dict=None):
        states = self.model(input_ids, attention_mask, position_ids).last_hidden_state
        return MaskedLMOutput(logits=self.lm_head(states))

    def get_input_embeddings(self):
        return self.model.word_embeddings

    def get_output_embeddings(self):
        return self.lm_head
"""

MDLM = """
from .configuration_own import MDLMConfig


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.vocab_embed = nn.Embedding(config.vocab_size, config.hidden_dim)
        self.sigma_map = nn.Linear(1, config.hidden_dim)
        self.blocks = nn.ModuleList(Layer(config.hidden_dim, config.n_heads) for _ in range(config.n_blocks))
        self.output_layer = nn.Linear(config.hidden_dim, config.vocab_size)

    def forward(self, indices, sigma):
        if not self.config.time_conditioning:
            sigma = torch.zeros_like(sigma)
        x = self.vocab_embed(indices) + self.sigma_map(sigma[:, None])[:, None]
        for block in self.blocks:
            x = block(x, None, counted(indices))
        return self.output_layer(x)


class MDLM(PreTrainedModel):
    config_class = MDLMConfig
    base_model_prefix = "mdlm"

    def __init__(self, config):
        super().__init__(config)
        self.backbone = Backbone(config)
        self.post_init()

    def forward(self, input_ids=None, timesteps=None, output_hidden_states=None, return_dict=None):
        logits = self.backbone(input_ids, timesteps)
        return MaskedLMOutput(logits=logits) if return_dict else logits
"""

USUAL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
# kind -> code, class, model type, auto class, name of the config class, sizes
KINDS = {
    "llada": (LLADA, "LLaDAModelLM", "llada", "AutoModelForCausalLM", "LLaDAConfig",
              {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_sequence_length": 64}),
    "dream": (DREAM, "DreamModel", "Dream", "AutoModel", "DreamConfig", USUAL),
    "llada2": (LLADA2, "LLaDA2MoeModelLM", "llada2_moe", "AutoModelForCausalLM", "LLaDA2MoeConfig", USUAL),
    "mdlm": (MDLM, "MDLM", "mdlm", "AutoModelForMaskedLM", "MDLMConfig",
             {"hidden_dim": 32, "n_blocks": 2, "n_heads": 2, "model_length": 64, "time_conditioning": False}),
}  # fmt: skip


def bare_tokenizer(mask: str | None) -> Tokenizer:
    """A tokenizer whose mask has another text, or none."""
    tokenizer = Tokenizer.train(SENTENCES, 300)
    content = tokenizer.backend.to_str().replace('"[MASK]"', json.dumps(mask or "<word0>"))
    backend = type(tokenizer.backend).from_str(content)
    return Tokenizer(
        backend, {"pad": "[PAD]", "eos": "[EOS]", "bos": "[BOS]"}, {"eos_token": "[EOS]", "pad_token": "[PAD]"}
    )


def own_code_folder(kind: str, folder: Path, config: dict | None = None, std: float = 0.2) -> Path:
    """Write a folder of this kind, with random weights. ``config`` adds or replaces entries of ``config.json``."""
    code, name, model_type, auto, config_name, sizes = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = bare_tokenizer(None if kind == "mdlm" else "<|mdm_mask|>" if kind == "llada" else "<|mask|>")
    mask = tokenizer.backend.token_to_id("<|mask|>") or tokenizer.backend.token_to_id("<|mdm_mask|>")
    size = len(tokenizer) + (kind == "mdlm")
    entries = {
        "architectures": [name], "model_type": model_type, "vocab_size": size, "embedding_size": size, "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id, **sizes,
        "auto_map": {"AutoConfig": f"configuration_own.{config_name}", auto: f"modeling_own.{name}"},
        **({"mask_token_id": mask} if kind in ("llada", "dream", "llada2") else {}), **({"block_length": 4} if kind == "llada2" else {}),
        **(config or {}),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))
    (folder / "configuration_own.py").write_text(
        f"from transformers import PreTrainedConfig\n\n\nclass {config_name}(PreTrainedConfig):\n    model_type = {model_type!r}\n\n"
        "    def __init__(self, **entries):\n        super().__init__(**entries)\n"
    )
    (folder / "modeling_own.py").write_text(BLOCK + code)
    tokenizer.save(folder)
    made = original(folder, random=True)
    torch.manual_seed(0)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=std)
    made.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))
    return folder


def original(folder: Path, random: bool = False):
    """The network of a folder as transformers loads it."""
    auto = next(key for key in json.loads((folder / "config.json").read_text())["auto_map"] if key != "AutoConfig")
    kind = getattr(transformers, auto)
    if random:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
        return kind.from_config(config, trust_remote_code=True).eval()
    return kind.from_pretrained(folder, trust_remote_code=True).eval()
