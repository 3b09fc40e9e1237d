"""The plateau guard: name a training loss that stays at the unigram entropy of the data.

A network that ignores the context can at best predict the frequencies of tokens; its loss is then the unigram entropy
``H = -sum_x p(x) ln p(x)``, in nats per token. Every masked language model passes this value. One that stays there learns nothing
of the context, and the causes are few. The guard compares the mean loss of two successive windows of steps with ``H``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from unmask.config.objective_config import ObjectiveConfig
from unmask.data.store.token_store import TokenStore

COUNTED = 2**26  # tokens to count at most, from all parts of a store
PIECE = 2**20
WITHIN = (0.98, 1.1)  # of the entropy: lower is knowledge of the context, higher is not yet the frequencies
FLAT = 0.01  # a fall from one window to the next of less than this fraction of the entropy is none
SURE = 0.01  # standard error of the mean of a window, as a fraction of the entropy


def measures_tokens(config: ObjectiveConfig) -> bool:
    """Tell whether the training loss of an objective is an estimate of the mean nats per masked token."""
    plain = not (config.label_smoothing or config.z_loss or config.loss_on_visible_tokens)
    mean = config.weighting == "flat" and config.normaliser == "scored"
    every = config.name == "autoregressive" and config.normaliser == "supervised"
    bound = config.weighting != "flat" and config.normaliser == "supervised"
    return plain and (mean or every or bound)


def unigram_entropy(store: TokenStore, excluded: Collection[int] = ()) -> float:
    """Return the unigram entropy of a store, in nats per token.

    Args:
        store: the tokens; of a large one, pieces from all its parts are counted.
        excluded: ids that are never scored.
    """
    if store.n_tokens <= COUNTED:
        counts = store.unigram_counts.astype(np.float64)
    else:
        counts = np.zeros(store.vocab_size)
        for start in np.linspace(0, store.n_tokens - PIECE, COUNTED // PIECE).astype(np.int64):
            counts += np.bincount(store.read(int(start), int(start) + PIECE), minlength=store.vocab_size)
    counts[[each for each in excluded if each < len(counts)]] = 0.0
    p = counts[counts > 0] / max(1.0, counts.sum())
    return float(-(p * np.log(p)).sum())


class PlateauGuard(Callback):
    """Print a note once if the loss stays at the unigram entropy, and what the usual causes are.

    Args:
        entropy: of :func:`unigram_entropy`.
        steps: optimiser steps of the run; a window is a tenth of them.
        warmup: steps of the warm-up of the learning rate, which are left out.
        console: a Rich console.

    Attributes:
        named: whether the note was printed, in this process or before it resumed.
    """

    def __init__(self, entropy: float, steps: int, warmup: int, console: Console) -> None:
        self.entropy = entropy
        self.window: int = max(20, steps // 10)
        self.warmup = warmup
        self.console = console
        self.losses: list[float] = []
        self.squared_error: float = 0.0
        self.before: float | None = None
        self.named: bool = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        at_step_end = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not at_step_end or self.named or self.entropy <= 0 or trainer.global_step <= self.warmup:
            return
        loss, error = (float(trainer.callback_metrics[f"train/{name}"]) for name in ("loss", "loss_error"))
        if not math.isfinite(loss + error):
            return  # a skipped step
        self.losses.append(loss)
        self.squared_error += error**2
        count = len(self.losses)
        if count < self.window or math.sqrt(self.squared_error) / count > SURE * self.entropy:
            return
        mean, before = math.fsum(self.losses) / count, self.before
        self.before, self.losses, self.squared_error = mean, [], 0.0
        low, high = (factor * self.entropy for factor in WITHIN)
        if before is not None and all(low <= each <= high for each in (before, mean)):
            self.named = abs(before - mean) < FLAT * self.entropy
        if self.named and trainer.is_global_zero:
            self.console.print(self.note(trainer.global_step, mean), highlight=False, markup=False, soft_wrap=True)

    def note(self, step: int, mean: float) -> str:
        """Return the note."""
        return (
            f"Note: at step {step} the training loss stays at {mean:.3f} nats per token, and the unigram entropy of the data is "
            f"{self.entropy:.3f}: the network predicts how frequent tokens are, and nothing of their context. Usual causes: many repeated "
            "lines or documents (count them; drop them before `unmask prepare`); a learning rate that is too high or too low (a third or "
            "three times optim.lr, a longer optim.warmup); a tokenizer whose tokens are too rare or too long for the data (a smaller "
            "data.vocab_size); a mask rate that leaves no context (objective.probability). A small network on much text may need more steps."
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "losses": self.losses,
            "squared_error": self.squared_error,
            "before": self.before,
            "named": self.named,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = list(state_dict["losses"])
        self.squared_error = state_dict["squared_error"]
        self.before = state_dict["before"]
        self.named = state_dict["named"]
