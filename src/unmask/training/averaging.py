"""Averaged weights: an exponential moving average (EMA), on one process, on several, and on the parts of split weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from unmask.training.sharding import local_part, release_gathered


class AveragedWeights(Callback):
    """Exponential moving average of the weights, which is validated and saved in place of the raw weights.

    After the first step the average is the weights, and after each later one ``decay * average + (1 - decay) * weights``.
    The training state keeps the raw weights, so a resumed run continues from them. The network also keeps them when training
    ends, so that the last checkpoint has the same content as any other. Split weights are averaged part by part.

    Args:
        decay: decay of the average per optimiser step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.updates: int = 0
        self.latest_step: int = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the average, or move a loaded one to the device of the weights."""
        self.average = {
            name: self.average[name].to(weight.device) if name in self.average else weight.detach().clone()
            for name, weight in pl_module.named_parameters()
        }

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimiser step."""
        if trainer.global_step <= self.latest_step:
            return
        for name, weight in pl_module.named_parameters():
            average, current = local_part(self.average[name]), local_part(weight)
            average.copy_(current if self.updates == 0 else self.decay * average + (1 - self.decay) * current)
        self.updates += 1
        self.latest_step = trainer.global_step

    @torch.no_grad()
    def _swap(self, pl_module: LightningModule) -> None:
        release_gathered(pl_module)  # gathered weights are copies, which the swap would leave as they are
        for name, weight in pl_module.named_parameters():
            if name in self.average:  # empty before training
                average, current = local_part(self.average[name]), local_part(weight)
                kept = average.clone()
                average.copy_(current)
                current.copy_(kept)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in the network."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the raw weights back."""
        self._swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"latest_update_step": self.latest_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest_step = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights, and the raw weights beside it."""
        names = {id(weight): name for name, weight in pl_module.named_parameters()}
        every = dict(pl_module.named_parameters(remove_duplicate=False))  # tied weights have several names
        raw: dict[str, Tensor] = checkpoint["state_dict"]
        averages = {name: self.average[names[id(weight)]] for name, weight in every.items()}
        checkpoint["current_model_state"] = raw
        checkpoint["state_dict"] = {name: averages.get(name, value) for name, value in raw.items()}
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self.updates)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Load the average, and the raw weights into the network."""
        if "current_model_state" not in checkpoint:
            raise ValueError(
                "The checkpoint to resume from has no averaged weights, and optim.ema asks for them. Set optim.ema to the value of the "
                "run, or start a new run in another folder."
            )
        names = dict(pl_module.named_parameters())
        self.average = {name: value.clone() for name, value in checkpoint["state_dict"].items() if name in names}
        self.updates = int(checkpoint["averaging_state"]["n_averaged"])
        if not any(local_part(weight) is not weight for weight in names.values()):  # split weights are loaded in place
            pl_module.load_state_dict(checkpoint["current_model_state"])
