"""Accuracy and entropy at masked tokens, at one mask rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.contracts import MLMModel, SpecialIds, is_autoregressive
from unmask.devices import wide
from unmask.evaluate.estimate import Estimate, ratio
from unmask.evaluate.hidden import Measure, Progress, measure_hidden
from unmask.evaluate.next_token import measure_every
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import ConstantMaskRate


def in_top(k: int) -> Measure:
    """Return a measure: 1.0 if fewer than ``k`` tokens are more likely than the true one; ties count as a fair draw."""

    def measure(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
        true = logits.gather(-1, targets[:, None])
        above = (logits > true).sum(-1)
        tied = (logits == true).sum(-1)  # includes the true token
        # The fraction of the orders of the tied tokens in which the true one is among the first k.
        return (wide((k - above).clamp(min=0)) / tied).clamp(max=1.0)

    return measure


def entropy(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Return the entropy of the model's distribution, in nats."""
    log_p = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
    return -torch.where(log_p > -torch.inf, log_p * log_p.exp(), 0.0).sum(-1)


@dataclass(frozen=True)
class MaskedAccuracy:
    """Predictions at masked tokens, with intervals over documents.

    Attributes:
        rate: fraction of each window that was masked.
        top_1, top_5: fraction of masked tokens with the true token first, or among the first five.
        entropy: of the model's distribution at masked tokens, nats per token.
        unscored: number of special tokens inside documents (such as unknown words), which are never masked.
    """

    rate: float
    top_1: Estimate
    top_5: Estimate
    entropy: Estimate
    unscored: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        estimates = {name: getattr(self, name).as_dict() for name in ("top_1", "top_5", "entropy")}
        return {"rate": self.rate} | estimates | {"unscored_tokens": self.unscored}


def masked_accuracy(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    *,
    rate: float = 0.15,
    samples: int = 1,
    seed: int = 0,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> MaskedAccuracy:
    """Mask ``ceil(rate * n)`` tokens of every window and measure the model's predictions.

    An autoregressive network predicts every token from those before it instead, which is reported as rate 1. All masked tokens become ``[MASK]``. Arguments as of :func:`unmask.evaluate.likelihood.nelbo`.

    Raises:
        ValueError: as :func:`unmask.evaluate.likelihood.nelbo`, or a ``rate`` outside (0, 1].
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError(
            f"rate={rate} is the fraction of tokens to mask: give a number above 0 and up to 1, such as 0.15."
        )
    measures = [in_top(1), in_top(5), entropy]
    if is_autoregressive(model):
        rate, measured = 1.0, measure_every(
            model, windows, SpecialIds.of(special), measures,
            samples=samples, batch_tokens=batch_tokens, device=device, progress=progress,
        )  # fmt: skip
    else:
        measured = measure_hidden(
            model, windows, special, measures, ConstantMaskRate(rate),
            samples=samples, seed=seed, batch_tokens=batch_tokens, device=device, progress=progress,
        )  # fmt: skip

    def per_document(values: NDArray[Any]) -> NDArray[np.float64]:
        totals: NDArray[np.float64] = np.zeros((samples, windows.n_documents))
        np.add.at(totals.T, windows.document, values.T)
        return totals

    hidden = per_document(measured.hidden)
    top_1, top_5, uncertainty = (ratio(per_document(sums), hidden) for sums in measured.sums)
    return MaskedAccuracy(rate, top_1, top_5, uncertainty, windows.unscored(SpecialIds.of(special)))
