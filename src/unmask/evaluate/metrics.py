"""How well hidden tokens are guessed: accuracy and entropy at one share hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.devices import wide
from unmask.evaluate.estimate import Estimate, ratio
from unmask.evaluate.hidden import Measure, Progress, measure_hidden
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import ConstantMaskRate


def in_top(k: int) -> Measure:
    """1.0 where fewer than ``k`` tokens are likelier than the true one; a token that ties with it counts half."""

    def measure(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
        true = logits.gather(-1, targets[:, None])
        above = (logits > true).sum(-1)
        level = (logits == true).sum(-1)  # the true token is one of them
        # Ties are broken by a fair draw: the share of their orders that puts the true one among the first k.
        return (wide((k - above).clamp(min=0)) / level).clamp(max=1.0)

    return measure


def entropy(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Entropy of the model's distribution, in nats."""
    log_p = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
    return -torch.where(log_p > -torch.inf, log_p * log_p.exp(), 0.0).sum(-1)


@dataclass(frozen=True)
class MaskedAccuracy:
    """Guesses at hidden tokens, with intervals over documents.

    Attributes:
        rate: share of each window that was hidden.
        top_1, top_5: share of hidden tokens that were the model's first guess, or among its first five.
        entropy: of the model's distribution at hidden tokens, nats per token.
        unscored: special tokens inside documents (unknown words, say), which are never hidden.
    """

    rate: float
    top_1: Estimate
    top_5: Estimate
    entropy: Estimate
    unscored: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        estimates = {name: getattr(self, name).as_dict() for name in ("top_1", "top_5", "entropy")}
        return {"rate": self.rate} | estimates | {"unscored_tokens": self.unscored}


def masked_accuracy(
    model: Any,
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
    """Hide ``ceil(rate * n)`` tokens of every window and look at the model's guesses.

    Arguments as in :func:`unmask.evaluate.likelihood.bound`; all hidden tokens become ``[MASK]``.
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError(
            f"rate={rate} is the share of tokens that is hidden: give a number above 0 and up to 1, such as 0.15."
        )
    measures = [in_top(1), in_top(5), entropy]
    found = measure_hidden(
        model, windows, special, measures, ConstantMaskRate(rate),
        samples=samples, seed=seed, batch_tokens=batch_tokens, device=device, progress=progress,
    )  # fmt: skip

    def per_document(values: Any) -> Any:
        totals = np.zeros((samples, windows.n_documents))
        np.add.at(totals.T, windows.document, values.T)
        return totals

    hidden = per_document(found.hidden)
    top_1, top_5, uncertainty = (ratio(per_document(sums), hidden) for sums in found.sums)
    return MaskedAccuracy(rate, top_1, top_5, uncertainty, windows.unscored(SpecialIds.of(special)))
