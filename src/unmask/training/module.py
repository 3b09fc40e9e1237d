"""The one LightningModule: any masked language model, any loss over the batch contract.

A pass returns the mean loss of its rows. Its gradient is that of their sum, in units that are the same for all passes and ranks, and it
is divided once per optimiser step by the count over all of them. The step therefore does not depend on how its rows were split.
Ambient randomness (dropout) is seeded per batch from
``(seed, batch)``, so a resumed run repeats an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from unmask.config.optim_config import OptimConfig
from unmask.contracts import Objective
from unmask.randomness import fold
from unmask.training.loss import as_mlm_batch
from unmask.training.optim import build_optimizer, learning_rate_share

SHAPES_APART = 256  # scored positions are counted in so many on an accelerator: few shapes, little waste


class MaskedLMModule(LightningModule):
    """Trains ``model`` under ``loss``.

    Args:
        model: the network.
        loss: the objective.
        optim: optimiser and learning-rate course.
        total_steps: optimiser steps of the whole run, which the learning-rate course spans; None = those the trainer will take.
        seed: of dropout.

    Logs per step ``train/loss``, ``train/loss_error`` (its standard error as an estimate from the step's rows and their noise),
    ``train/lr`` and ``train/gradient_norm`` (before clipping), and per validation ``valid/loss`` (nats, the training objective) and
    ``valid/accuracy`` (share of scored tokens whose most likely token is the true one).
    """

    def __init__(
        self, model: nn.Module, loss: Objective, optim: OptimConfig, total_steps: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optim = optim
        self.total_steps = total_steps
        self.seed = seed
        self._sums = torch.zeros(3)  # of the step under way: numerator, denominator, squared error of the numerator
        self._unit: int | None = None
        self._valid: list[Tensor] = []  # of each batch: numerator, denominator, correct, scored

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.optim)
        total = self.total_steps if self.total_steps is not None else self.trainer.estimated_stepping_batches
        if not 1 <= total < math.inf:
            raise ValueError(
                f"The learning rate follows a course over all steps of a run, and this trainer will take {total}: give it max_steps or "
                "max_epochs, and data."
            )
        scheduler = LambdaLR(
            optimizer, lambda step: learning_rate_share(min(step, int(total) - 1), self.optim, int(total))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Recount the passes done as passes of this run: it may accumulate over another number of them than the one that saved.
        (Without a trainer only the weights are read, ``load_from_checkpoint``.)"""
        if self._trainer is None:
            return
        passes = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            moved = passes - counts["processed"]
            counts.update({name: count + moved for name, count in counts.items()})

    def on_train_start(self) -> None:
        """Take the learning rate of this run's own course: what a checkpoint holds is that of the run that saved it, which may have had
        fewer steps."""
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if isinstance(scheduler, LambdaLR):
                for group, peak, share in zip(
                    scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
                ):
                    group["lr"] = peak * share(scheduler.last_epoch)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """An accelerator is told where the scored positions are, rather than waited for to say how many."""
        return (
            self.loss.locate(batch, self.model, SHAPES_APART)
            if self.trainer.training and self.device.type != "cpu"
            else batch
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        accumulate = self.trainer.accumulate_grad_batches
        drawn = self.trainer.global_step * accumulate + batch_idx % accumulate
        key = fold(fold(torch.tensor(self.seed), drawn), self.global_rank)
        torch.manual_seed(int(key))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The mean loss of a batch; under a Trainer its gradient is that of the sum, counted in :meth:`_unit_of`."""
        parts = self.loss(batch, self.model)
        count, numerator = parts["denominator"], parts["numerator"]
        spread = parts["variance"] * count.clamp(min=1) ** 2
        self._sums = self._sums.to(self.device) + torch.stack([numerator.detach(), count, spread])
        if self._trainer is None:  # a loop of the caller's own
            return parts["loss"]
        counted = numerator / self._unit_of(batch)
        return counted + (parts["loss"] - counted).detach()

    def _unit_of(self, batch: Any) -> int:
        """What sums are counted in: about the positions of a batch, so that gradients are as large as those of a mean.

        It is found once a run, by the first rank, so that all passes and ranks agree. It is a power of two, and so rounds nothing.
        """
        if self._unit is None:
            ids = batch if isinstance(batch, Tensor) else as_mlm_batch(batch)["input_ids"]
            self._unit = int(self.trainer.strategy.broadcast(1 << max(0, ids.numel() - 1).bit_length()))
        return self._unit

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        numerator, denominator, spread = self.trainer.strategy.reduce(self._sums, reduce_op="sum").unbind()
        self._sums = torch.zeros_like(self._sums)
        if not bool(torch.isfinite(numerator)):
            raise ValueError(
                f"The loss is no longer a number at step {self.trainer.global_step + 1}, so training stopped before it could spoil the "
                "weights. Lower optim.lr (or optim.muon_lr), raise optim.warmup, or clip harder (optim.clip), and run again: the last "
                "checkpoint is from before."
            )
        # Lightning divides by the accumulation steps, distributed strategies by the ranks: undo both.
        scale = (
            (self._unit or 1)
            * self.trainer.accumulate_grad_batches
            * self.trainer.world_size
            / denominator.clamp(min=1)
        )
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, scale)
        self.log("train/loss", numerator / denominator.clamp(min=1))
        self.log("train/loss_error", spread.sqrt() / denominator.clamp(min=1))
        self.log("train/lr", optimizer.param_groups[-1]["lr"])

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the norm of all gradients. Lightning refuses to with fused optimisers, which undo a scaling for float16 by themselves:
        here it is undone before."""
        if gradient_clip_val:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
                scaler.unscale_(optimizer)
            parameters = [p for g in optimizer.param_groups for p in g["params"]]
            self.log("train/gradient_norm", torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val))

    def on_validation_epoch_start(self) -> None:
        self._valid = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        batch = dict(as_mlm_batch(batch))
        tokens = self.loss.score(batch, self.model)
        parts = self.loss.combine(batch, tokens)
        scored = tokens.nll.new_tensor(len(tokens.nll))
        self._valid.append(torch.stack([parts["numerator"], parts["denominator"], tokens.correct.sum(), scored]))

    def on_validation_epoch_end(self) -> None:
        sums = (
            torch.stack(self._valid or [torch.zeros(4)]).cpu().double().sum(0)
        )  # added on the host: not every device has float64
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        numerator, denominator, correct, scored = sums.unbind()
        self.log("valid/loss", (numerator / denominator.clamp(min=1)).float())
        self.log("valid/accuracy", (correct / scored.clamp(min=1)).float())
