"""Attention annealing (DiffuLLaMA, 2410.17891): open the attention of a causal network step by step."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

SHARE = 0.1


class AttentionAnnealing(Callback):
    """Raise the fraction of later positions that tokens attend to from 0 to 1, over the first tenth of training.

    The fraction is a function of the step alone, so a resumed run equals an uninterrupted one. Validation and samples use open
    attention, as the trained network does.

    Args:
        steps: optimiser steps of the run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def future(self, step: int) -> float:
        """Return the fraction at a step, in [0, 1]."""
        return min(1.0, step / max(1.0, SHARE * self.steps))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        pl_module.model.set_future(self.future(trainer.global_step))  # type: ignore[union-attr, operator]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.model.set_future(1.0)  # type: ignore[union-attr, operator]
