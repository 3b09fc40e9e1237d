"""The ``model`` section of the config: the network and its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from unmask.config.section import Section

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 256, "num_layers": 4, "nhead": 4, "max_length": 512},
    "small": {"d_model": 384, "num_layers": 6, "nhead": 6, "max_length": 1024},
    "base": {"d_model": 768, "num_layers": 12, "nhead": 12, "max_length": 1024},
    "large": {"d_model": 1024, "num_layers": 24, "nhead": 16, "max_length": 2048},
}


class ModelConfig(Section):
    """The network and its sizes. ``preset`` fills every size left unset."""

    preset: Literal["tiny", "small", "base", "large"] | None = Field(
        "small", description="Sizes by name: tiny (demo), small, base (110M parameters), large; null = none."
    )
    d_model: PositiveInt = Field(384, description="Width of the hidden states, in channels.")
    num_layers: PositiveInt = Field(6, description="Number of transformer blocks.")
    nhead: PositiveInt = Field(6, description="Number of attention heads.")
    dim_feedforward: PositiveInt | None = Field(
        None, description="Hidden width of the feed-forward layers, in channels; null = 4 × d_model."
    )
    dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Dropout probability of attention and residual branches; 0 is fastest and usual in pretraining.",
    )
    activation: Literal["relu", "gelu", "gelu_tanh", "silu", "squared_relu"] = Field(
        "gelu", description="Activation function of the feed-forward layers."
    )
    max_length: PositiveInt = Field(1024, description="Longest row that the network accepts, in tokens.")
    rotary_emb_dim: PositiveInt = Field(
        64, description="Channels of each head that are rotated by position (rotary embeddings)."
    )
    tie_embeddings: bool = Field(
        True, description="Use one weight matrix for the input embedding and the output projection."
    )
    local_init_layers: int = Field(
        2, ge=0, description="Number of first layers whose heads are initialised to attend to neighbouring positions."
    )
    causal_block: PositiveInt | None = Field(
        None,
        description="Length of an attention block, in tokens: attention covers a token's own block and earlier blocks, so finished blocks are cached exactly (--cache block); null = bidirectional.",
    )
    shift: bool = Field(
        False,
        description="The input at a position is the token before it, so a causal network predicts the next token; set by objective.name=autoregressive.",
    )
    use_flex_attn: bool = Field(
        False,
        description="Use FlexAttention for packed rows on CUDA, best without dropout; on a CPU the result is the same.",
    )
    kind: Literal["rotary", "learned_positions", "instruction_trace", "hugging_face"] = Field(
        "rotary",
        description="Network: rotary (any tokens), learned_positions (adds a vector per position, for boards and other rows of one layout), instruction_trace (adds embeddings of instruction and argument index), or hugging_face (from init).",
    )
    init: str | None = Field(
        None,
        min_length=1,
        description="First weights: a run, a checkpoint, or a masked or causal Hugging Face model (folder or hub name); null = random.",
    )
    init_shift: Literal["auto"] | bool = Field(
        "auto",
        description="Read the prediction of a token one position earlier; auto = true for init from a causal model.",
    )
    init_attention: Literal["bidirectional", "annealed"] = Field(
        "bidirectional",
        description="Attention of a causal init: bidirectional at once, or annealed over the first tenth of training.",
    )
    init_step: int | None = Field(
        None, ge=0, description="Optimiser steps of init; written by training, and compared where given."
    )
    init_ids: int | None = Field(
        None, ge=1, description="Number of ids of init's tokenizer; written by training, and compared where given."
    )
    init_sha256: str | None = Field(
        None, description="SHA-256 of the weights of init; written by training, and compared where given."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            preset = values.get("preset", None if values.get("init") else "small")  # init has its own sizes
            return {**PRESETS.get(preset, {}), **values} if isinstance(preset, str) else values
        return values

    @property
    def dropout_given(self) -> bool:
        """Whether ``dropout`` was given; a default does not replace the dropout of ``init``."""
        return "dropout" in self.model_fields_set
