"""Objectives: ``sum(weight * cross_entropy) / normaliser`` over the scored positions.

    weighting    flat          1                       BERT; MaskGIT
                 inverse_p     1 / p                   LLaDA; the linear schedule of MDLM and MD4
                 a schedule    rate'(t) / rate(t)      MDLM, MD4 under that schedule, t found from p
                 DiscreteTime  T (rate_t - rate_s) / rate_t   MD4 in T steps
                 CountTime     slope / rate for exact counts  MaskGIT's corruption under any schedule, as a bound
    normaliser   scored        positions with noise_mask
                 supervised    positions that could have been hidden (p_mask > 0)
                 sequence      rows
                 answer        as supervised, but per row: every row counts the same

Weights are never negative. The denominator counts only what the numerator can contain. All sums are float32 or
wider whatever the autocast type.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.devices import has_float64
from unmask.ops.schedule import DiscreteTime, FixedCountTime, Schedule

Weighting = Literal["flat", "inverse_p"] | Schedule | DiscreteTime | FixedCountTime
Normaliser = Literal["scored", "supervised", "sequence", "answer"]


def token_nll(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Negative log-likelihood of each target, in nats; float32 at least."""
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets, reduction="none")


def regularised_nll(
    logits: Float[Tensor, "scored vocab"],
    nll: Float[Tensor, " scored"],
    label_smoothing: float,
    z_loss: float,
) -> Float[Tensor, " scored"]:
    """What is minimised at each position: ``nll``, unless one of two regularisers is on.

    Args:
        label_smoothing: share ``s`` of the target spread evenly over the vocabulary (Szegedy et al. 2016):
            ``(1 - s) nll + s mean(-log p)``.
        z_loss: factor of ``log(Z) ** 2``, which keeps the logits' normaliser ``Z`` near 1 (Chowdhery et al. 2022, section 5).
    """
    token_loss = nll
    if label_smoothing or z_loss:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        log_z = wide.logsumexp(-1)
        token_loss = (1 - label_smoothing) * nll + label_smoothing * (log_z - wide.mean(-1)) + z_loss * log_z**2
    return token_loss


def ratio_variance(row_sums: Float[Tensor, " batch"], counts: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The variance of ``sum(row_sums) / sum(counts)`` as an estimate from independent rows; 0 for a single row.

    It is that of the rows' residuals (Cochran 1977, section 6.3), so rows of unequal length do not count as noise.
    """
    n, below = len(row_sums), counts.sum().clamp(min=1)
    residual = row_sums - row_sums.sum() / below * counts
    return n / max(1, n - 1) * residual.square().sum() / below**2 if n > 1 else row_sums.new_zeros(())


def token_weights(weighting: Weighting, p: Float[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """The weight of each scored position, from the probability with which it was hidden."""
    if isinstance(weighting, str):
        return torch.ones_like(p) if weighting == "flat" else 1.0 / p
    if not has_float64(p.device):  # a difference of near times would lose its digits in float32
        return weighting.weight_at_rate(p.cpu().double()).to(p)
    return weighting.weight_at_rate(p.double()).to(p.dtype)


def row_shares(normaliser: Normaliser, supervised: Bool[Tensor, "batch seq"]) -> Float[Tensor, " batch"] | None:
    """What each row's sum is divided by before rows are added; None where rows are simply added."""
    return supervised.sum(-1).clamp(min=1).float() if normaliser == "answer" else None


def row_counts(
    normaliser: Normaliser, scored: Bool[Tensor, "batch seq"], supervised: Bool[Tensor, "batch seq"]
) -> Float[Tensor, " batch"]:
    """How many of the normaliser's units each row holds; their sum, over ranks and steps too, is the denominator."""
    if normaliser == "scored":
        return scored.sum(-1).float()
    if normaliser == "supervised":
        return supervised.sum(-1).float()
    return supervised.any(-1).float()
