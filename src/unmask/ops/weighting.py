"""Loss weights: ``sum(weight * cross_entropy) / normaliser`` over the scored positions.

    weighting    flat           1                            BERT; MaskGIT
                 inverse_p      1 / p                        LLaDA; the linear schedule of MDLM and MD4
                 a schedule     rate'(t) / rate(t)           MDLM, MD4 under that schedule, t computed from p
                 DiscreteTime   T (rate_t - rate_s) / rate_t MD4 in T steps
                 FixedCountTime 1 / (k P(k))                 fixed counts under any schedule (a likelihood bound)
    normaliser   scored         masked tokens (noise_mask)
                 supervised     maskable tokens (p_mask > 0)
                 sequence       rows
                 answer         maskable tokens of each row: every row counts the same

Weights are never negative. The denominator counts only what the numerator can contain. All sums are float32 or wider
under any autocast dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.devices import has_float64
from unmask.ops.schedule import DiscreteTime, FixedCountTime, Schedule
from unmask.registry import Registry

WeightFunction = Callable[[Tensor], Tensor]
"""A weighting of one's own: mask probabilities ``p [N]`` -> weights ``[N]``, finite and at least 0."""
Weighting = Literal["flat", "inverse_p"] | str | Schedule | DiscreteTime | FixedCountTime | WeightFunction
Normaliser = Literal["scored", "supervised", "sequence", "answer"]


def _inverse(p: Tensor) -> Tensor:
    return 1.0 / p


def _masked_tokens(scored: Tensor, maskable: Tensor) -> Tensor:
    return scored.sum(-1).float()


def _maskable_tokens(scored: Tensor, maskable: Tensor) -> Tensor:
    return maskable.sum(-1).float()


def _rows(scored: Tensor, maskable: Tensor) -> Tensor:
    return maskable.any(-1).float()


WEIGHTINGS: Registry[Callable[[Tensor], Tensor]] = Registry(
    "weighting",
    {
        "flat": (torch.ones_like, "1 for every masked token (BERT, MaskGIT)"),
        "inverse_p": (_inverse, "1 / the probability to be masked (LLaDA)"),
    },
)
NORMALISERS: Registry[Callable[[Tensor, Tensor], Tensor]] = Registry(
    "normaliser",
    {
        "scored": (_masked_tokens, "masked tokens"),
        "supervised": (_maskable_tokens, "maskable tokens"),
        "sequence": (_rows, "rows"),
        "answer": (_rows, "maskable tokens of each row, then rows"),
    },
)


def token_nll(logits: Float[Tensor, "scored vocab"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Return the negative log-likelihood of each target, in nats; float32 at least."""
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets, reduction="none")


def regularised_nll(
    logits: Float[Tensor, "scored vocab"],
    nll: Float[Tensor, " scored"],
    label_smoothing: float,
    z_loss: float,
) -> Float[Tensor, " scored"]:
    """Return the token loss that training minimises: ``nll``, plus up to two regularisers.

    Args:
        logits: ``[N, V]`` of the scored positions.
        nll: ``[N]``, negative log-likelihood in nats.
        label_smoothing: fraction ``s`` of the target spread evenly over the vocabulary (Szegedy et al. 2016):
            ``(1 - s) nll + s mean(-log p)``.
        z_loss: factor of ``log(Z) ** 2``, which keeps the softmax normaliser ``Z`` near 1 (Chowdhery et al. 2022, sec.
            5).
    """
    token_loss = nll
    if label_smoothing or z_loss:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        log_z = wide.logsumexp(-1)
        token_loss = (1 - label_smoothing) * nll + label_smoothing * (log_z - wide.mean(-1)) + z_loss * log_z**2
    return token_loss


def ratio_variance(row_sums: Float[Tensor, " batch"], counts: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Return the variance of ``sum(row_sums) / sum(counts)`` as an estimate from independent rows; 0 for one row.

    Computed from the rows' residuals (Cochran 1977, section 6.3), so unequal row lengths do not add variance.
    """
    n, below = len(row_sums), counts.sum().clamp(min=1)
    residual = row_sums - row_sums.sum() / below * counts
    return n / max(1, n - 1) * residual.square().sum() / below**2 if n > 1 else row_sums.new_zeros(())


def token_weights(weighting: Weighting, p: Float[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Return the weight of each scored position, from its probability ``p`` to be masked."""
    if isinstance(weighting, str):
        return WEIGHTINGS.choose(weighting)(p)
    if not isinstance(weighting, Schedule | DiscreteTime | FixedCountTime):
        return _checked(weighting(p), p)
    if not has_float64(p.device):  # float32 would lose the digits of a difference of close times
        return weighting.weight_at_rate(p.cpu().double()).to(p)
    return weighting.weight_at_rate(p.double()).to(p.dtype)


def _checked(weights: Tensor, p: Tensor) -> Tensor:
    if weights.shape != p.shape or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError(
            f"A weighting returns one finite weight of at least 0 for each of the {len(p)} mask probabilities; this one returned "
            f"{list(weights.shape)}, or a negative or infinite weight."
        )
    return weights


def row_shares(normaliser: Normaliser, supervised: Bool[Tensor, "batch seq"]) -> Float[Tensor, " batch"] | None:
    """Return the divisor of each row's sum before rows are added; None = no division."""
    return supervised.sum(-1).clamp(min=1).float() if normaliser == "answer" else None


def row_counts(
    normaliser: Normaliser, scored: Bool[Tensor, "batch seq"], supervised: Bool[Tensor, "batch seq"]
) -> Float[Tensor, " batch"]:
    """Return each row's count in units of the normaliser; their sum over ranks and steps is the denominator."""
    return NORMALISERS[normaliser](scored, supervised)
