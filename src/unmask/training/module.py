"""The one LightningModule: any masked language model, with any ``Objective``.

The gradient of a pass is that of the *sum* of its token losses, in a unit common to all passes and ranks. It is divided once per
optimiser step by the count over all of them, so a step does not depend on how its rows are split. The global random state
(dropout) is seeded per batch from ``(seed, batch)``, so a resumed run repeats an uninterrupted one.
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
from unmask.training.batches import as_mlm_batch
from unmask.training.non_finite import check_policy, stop_or_skip
from unmask.training.optim import build_optimizer, learning_rate_factor
from unmask.training.sharding import local_part, shard_blocks, whole_tensor

INDEX_MULTIPLE = 256  # length granularity of the scored index on an accelerator: few shapes, little padding


class MaskedLMModule(LightningModule):
    """A LightningModule that trains ``model`` under ``loss``.

    Logged per optimiser step: ``train/loss`` (nats), ``train/loss_error`` (its standard error over rows and masks),
    ``train/lr`` and ``train/gradient_norm`` (before clipping). Logged per validation: ``valid/loss`` (nats, the training
    objective) and ``valid/accuracy`` (fraction of scored tokens with the true token as the most likely one).

    Args:
        model: the network; an ``MLMModel``.
        loss: the objective, such as :class:`unmask.MLMLoss`.
        optim: optimiser and learning-rate schedule.
        total_steps: optimiser steps of the whole run, over which the learning-rate schedule extends; None = the number of the
            trainer.
        seed: random seed of dropout.
        non_finite: after a NaN or infinite loss or gradient, ``"stop"`` or ``"skip"`` the step.

    Examples:
        >>> import torch, unmask
        >>> model = unmask.RotaryTransformerMLMModel(20, 16, 1, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8)
        >>> module = unmask.MaskedLMModule(model, unmask.MLMLoss(), unmask.Config().optim, total_steps=100)
        >>> batch = {"input_ids": torch.zeros(2, 4, dtype=torch.int64), "target_ids": torch.full((2, 4), 5)}
        >>> module.training_step(batch, 0).shape
        torch.Size([])
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Objective,
        optim: OptimConfig,
        total_steps: int | None = None,
        seed: int = 0,
        non_finite: str = "stop",
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optim = optim
        self.total_steps = total_steps
        self.seed = seed
        self.non_finite: str = check_policy(non_finite)
        self._sums = torch.zeros(3)  # numerator, denominator and squared error of the numerator of the current step
        self._unit: int | None = None
        self._valid: list[Tensor] = []  # numerator, denominator, correct and scored tokens of each validation batch

    def configure_model(self) -> None:
        """Split the weights over the processes, under a strategy with a device mesh (``train.strategy=fsdp``)."""
        if self._device_mesh is not None:
            shard_blocks(self, self._device_mesh["data_parallel"], ("training_step", "validation_step"))

    def configure_optimizers(self) -> Any:
        """Return the optimiser of ``optim`` with its learning-rate schedule.

        Raises:
            ValueError: the number of steps is unknown, or an optimiser option is invalid.
        """
        optimizer = build_optimizer(self.model, self.optim)
        total = self.total_steps if self.total_steps is not None else self.trainer.estimated_stepping_batches
        if not 1 <= total < math.inf:
            raise ValueError(
                f"The learning-rate schedule needs the total number of steps, and this trainer reports {total}: pass the trainer "
                "max_steps, or max_epochs with data of known length."
            )
        scheduler = LambdaLR(
            optimizer, lambda step: learning_rate_factor(min(step, int(total) - 1), self.optim, int(total))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Convert the number of passes done to the accumulation of this run, which may differ from that of the saved run.

        Without a trainer (``load_from_checkpoint``) only the weights are loaded.
        """
        if self._trainer is None:
            return
        passes = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            moved = passes - counts["processed"]
            counts.update({name: count + moved for name, count in counts.items()})

    def on_train_start(self) -> None:
        """Set the learning rate by this run's schedule; the saved rate is that of a run with possibly fewer steps."""
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if isinstance(scheduler, LambdaLR):
                for group, peak, factor in zip(
                    scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
                ):
                    group["lr"] = peak * factor(scheduler.last_epoch)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Precompute the index of the scored positions on the host, to avoid a device sync per step."""
        return (
            self.loss.locate(batch, self.model, INDEX_MULTIPLE)
            if self.trainer.training and self.device.type != "cpu"
            else batch
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the global random state (dropout) from the seed, the number of the pass and the rank."""
        accumulate = self.trainer.accumulate_grad_batches
        drawn = self.trainer.global_step * accumulate + batch_idx % accumulate
        key = fold(fold(torch.tensor(self.seed), drawn), self.global_rank)
        torch.manual_seed(int(key))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch; under a Trainer its gradient is that of the sum, in units of :meth:`_unit_of`."""
        parts = self.loss(batch, self.model)
        count, numerator = parts["denominator"], parts["numerator"]
        spread = parts["variance"] * count.clamp(min=1) ** 2
        self._sums = self._sums.to(self.device) + torch.stack([numerator.detach(), count, spread])
        if self._trainer is None:  # called from another training loop
            return parts["loss"]
        counted = numerator / self._unit_of(batch)
        return counted + (parts["loss"] - counted).detach()

    def _unit_of(self, batch: Any) -> int:
        """Return the unit of summed losses: about the number of positions of a batch, so gradients have the scale of a mean.

        Rank 0 computes the unit once per run, so that all passes and ranks agree. It is a power of two, so dividing by it is
        exact.
        """
        if self._unit is None:
            ids = batch if isinstance(batch, Tensor) else as_mlm_batch(batch)["input_ids"]
            self._unit = int(self.trainer.strategy.broadcast(1 << max(0, ids.numel() - 1).bit_length()))
        return self._unit

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the count over all passes and ranks, and log the loss of the step.

        Raises:
            ValueError: the loss is NaN or infinite, and ``non_finite`` is ``"stop"``.
        """
        numerator, denominator, spread = self.trainer.strategy.reduce(self._sums, reduce_op="sum").unbind()
        self._sums = torch.zeros_like(self._sums)
        if not bool(torch.isfinite(numerator)):
            stop_or_skip(self.trainer, optimizer, "loss", self.non_finite)
        # Lightning divides by the accumulation steps, and distributed strategies divide by the ranks: undo both.
        scale = (
            (self._unit or 1)
            * self.trainer.accumulate_grad_batches
            * self.trainer.world_size
            / denominator.clamp(min=1)
        )
        gradients = [local_part(p.grad) for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, scale)
        self.log("step", float(self.trainer.global_step + 1))  # the step of loggers, which would count from 0
        self.log("train/loss", numerator / denominator.clamp(min=1))
        self.log("train/loss_error", spread.sqrt() / denominator.clamp(min=1))
        self.log("train/lr", optimizer.param_groups[-1]["lr"])

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the norm of all gradients.

        Lightning refuses to clip with fused optimisers, which remove the float16 loss scale themselves; here the scale is removed
        before clipping. A norm that is NaN or infinite stops training or skips the step, except under that scale, which skips itself.

        Raises:
            ValueError: the norm is NaN or infinite, and ``non_finite`` is ``"stop"``.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        norm = whole_tensor(torch.nn.utils.get_total_norm(gradients))  # over the parts of all processes
        if scaler is None and not bool(norm.isfinite()):
            stop_or_skip(self.trainer, optimizer, "gradient", self.non_finite)
        if gradient_clip_val:
            if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
                scaler.unscale_(optimizer)
            parameters = [p for g in optimizer.param_groups for p in g["params"]]
            self.log("train/gradient_norm", whole_tensor(torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)))

    def on_validation_epoch_start(self) -> None:
        """Reset the sums of the validation."""
        self._valid = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the sums of the validation."""
        batch = dict(as_mlm_batch(batch))
        tokens = self.loss.score(batch, self.model)
        parts = self.loss.combine(batch, tokens)
        scored = tokens.nll.new_tensor(len(tokens.nll))
        self._valid.append(torch.stack([parts["numerator"], parts["denominator"], tokens.correct.sum(), scored]))

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy of the validation over all ranks."""
        # Summed on the host, because not every device has float64.
        sums = torch.stack(self._valid or [torch.zeros(4)]).cpu().double().sum(0)
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        numerator, denominator, correct, scored = sums.unbind()
        self.log("step", float(self.trainer.global_step))
        self.log("valid/loss", (numerator / denominator.clamp(min=1)).float())
        self.log("valid/accuracy", (correct / scored.clamp(min=1)).float())
