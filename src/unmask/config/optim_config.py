"""The ``optim`` section of the config: the optimiser and the learning-rate schedule."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unmask.config.section import Fraction, NonNegative, Positive, Section


class OptimConfig(Section):
    """The optimiser and the learning-rate schedule.

    Examples:
        >>> import unmask
        >>> unmask.OptimConfig(name="muon", warmup=0.1).muon_lr
        0.02
    """

    name: Literal["adamw", "muon"] = Field(
        "adamw", description="Optimiser: adamw, or muon for matrices inside blocks with adamw for all other weights."
    )
    lr: Positive = Field(1e-3, description="Peak learning rate of AdamW.")
    muon_lr: Positive = Field(0.02, description="Peak learning rate of Muon.")
    weight_decay: NonNegative = Field(
        0.1, description="Decoupled weight decay of matrices; biases, norms and embeddings have none."
    )
    beta1: float = Field(0.9, ge=0.0, lt=1.0, description="Decay rate of AdamW's first moment.")
    beta2: float = Field(0.98, ge=0.0, lt=1.0, description="Decay rate of AdamW's second moment.")
    warmup: Fraction = Field(0.05, description="Fraction of all steps in which the learning rate rises linearly.")
    decay: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine", description="Decay after warm-up; wsd = constant, then linear over the last fifth of the steps."
    )
    final_lr: Fraction = Field(0.02, description="Learning rate of the last step, as a fraction of the peak.")
    clip: NonNegative = Field(1.0, description="Largest gradient norm, larger ones are clipped; 0 = no clipping.")
    ema: float = Field(
        0.0, ge=0.0, lt=1.0, description="Decay per step of the averaged weights (EMA), which are saved; 0 = none."
    )
