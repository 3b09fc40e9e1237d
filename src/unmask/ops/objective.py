"""Objectives: ``sum(weight * cross_entropy) / normaliser`` over the scored positions.

    weighting    flat          1                       BERT; MaskGIT
                 inverse_p     1 / p                   LLaDA; the linear schedule of MDLM and MD4
                 a schedule    rate'(t) / rate(t)      MDLM, MD4 under that schedule, t found from p
                 DiscreteTime  T (rate_t - rate_s) / rate_t   MD4 in T steps
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

from unmask.ops.schedule import DiscreteTime, Schedule

Weighting = Literal["flat", "inverse_p"] | Schedule | DiscreteTime
Normaliser = Literal["scored", "supervised", "sequence", "answer"]


def token_nll(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Negative log-likelihood of each target, in nats; float32 at least."""
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets, reduction="none")


def token_weights(weighting: Weighting, p: Float[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """The weight of each scored position, from the probability with which it was hidden."""
    if isinstance(weighting, str):
        return torch.ones_like(p) if weighting == "flat" else 1.0 / p
    return weighting.weight_at_rate(p.double()).to(p.dtype)


def row_shares(normaliser: Normaliser, supervised: Bool[Tensor, "batch seq"]) -> Float[Tensor, " batch"] | None:
    """What each row's sum is divided by before rows are added; None where rows are simply added."""
    return supervised.sum(-1).clamp(min=1).float() if normaliser == "answer" else None


def denominator(
    normaliser: Normaliser, scored: Bool[Tensor, "batch seq"], supervised: Bool[Tensor, "batch seq"]
) -> Float[Tensor, ""]:
    """How many of the normaliser's units this batch holds, as a float so that ranks and steps can be summed."""
    if normaliser == "scored":
        return scored.sum().float()
    if normaliser == "supervised":
        return supervised.sum().float()
    return supervised.any(-1).sum().float()
