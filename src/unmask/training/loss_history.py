"""``LossHistory``: a callback that keeps the losses of a training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class LossHistory(Callback):
    """Keep the training loss of every optimiser step, and the loss of every validation. Values stay on the device until read."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.valid_losses: list[tuple[int, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss of an optimiser step, after the last pass of the step."""
        if trainer.global_step > len(self.losses):
            self.losses.append(trainer.callback_metrics["train/loss"].detach().clone())

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Keep the loss of a validation."""
        self.valid_losses.append((trainer.global_step, trainer.callback_metrics["valid/loss"].detach().clone()))

    def values(self) -> tuple[tuple[float, ...], tuple[tuple[int, float], ...]]:
        """Return the training losses, and the steps and losses of the validations, in nats."""
        return (
            tuple(float(loss) for loss in self.losses),
            tuple((step, float(loss)) for step, loss in self.valid_losses),
        )
