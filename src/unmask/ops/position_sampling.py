"""Position samplers: which positions of a row to mask, given its mask rate.

A sampler maps each row's mask rate, the eligible positions and the row's noise to the selected positions and their
inclusion probabilities ``p``, ``[N, L]`` both, with ``E[selected / p] = 1`` at every eligible position. This identity
makes a ``1/p``-weighted loss unbiased (docs/theory.md, "Inclusion probabilities").

    bernoulli        each position independently, with p = mask rate
    FixedCount       exactly k, evenly, with p = k / n
    WeightedCount    exactly k, later positions more often
    Spans            runs of geometric length               (unmask.ops.spans)

Whole-word masking is an option of ``Corruption``, not a sampler: it samples words with any of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.arrays import (
    Array,
    all_true,
    as_array,
    as_tensor,
    columns,
    count_rows,
    extent,
    maximum,
    minimum,
    rounded,
    rounded_up,
    spread,
    to_float32,
)
from unmask.ops.selection import sample_weighted
from unmask.randomness import Noise, Stream

Rates = Float[Tensor, " batch"]
Mask = Bool[Tensor, "batch seq"]
Probabilities = Float[Tensor, "batch seq"]
PositionSampler = Callable[[Rates, Mask, Noise], tuple[Mask, Probabilities]]
Draw = Callable[[Probabilities, Probabilities, Mask, Int[Tensor, " batch"], Noise], Mask]


def bernoulli(mask_rate: Rates, eligible: Mask, noise: Noise) -> tuple[Mask, Probabilities]:
    """Mask each eligible position independently with the row's mask rate; ``p`` is that rate, up to 2^-32."""
    selected, p = noise.bernoulli(mask_rate, eligible, Stream.SELECTION)
    return selected, p.unsqueeze(-1).expand(eligible.shape)


@dataclass(frozen=True)
class FixedCount:
    """Mask exactly ``k`` of the ``n`` eligible positions, uniformly; ``k = max(ceil(mask_rate * n), min_count)``.

    Given ``k``, each eligible position is masked with probability ``p = k / n``, so weighting by ``1/p`` is weighting
    by ``n/k``. With mask rates uniform on (0, 1), ``k`` is uniform on ``1..n``.
    """

    min_count: int = 1

    def __call__(self, mask_rate: Rates, eligible: Mask, noise: Noise) -> tuple[Mask, Probabilities]:
        free = count_rows(as_array(eligible))
        k = minimum(maximum(exact_ceil(as_array(mask_rate) * free), self.min_count), free)
        p = as_tensor(to_float32(k / maximum(free, 1)))
        return noise.largest(as_tensor(k), eligible, Stream.SELECTION), p.unsqueeze(-1).expand(eligible.shape)


fixed_count: FixedCount = FixedCount()


def exact_ceil(count: Array) -> Array:
    """Return the ceiling of a rate times a count, int64, up to rounding: ``0.07 * 100`` gives 7, not 8."""
    return rounded_up(count * (1 - 2.0**-48))


def inclusion(log_w: Probabilities, k: Int[Tensor, " batch"]) -> Probabilities:
    """Return inclusion probabilities ``1 - exp(-w tau)``, with ``tau`` such that they sum to ``k`` (Rosén 1997).

    They approximate successive sampling with weights ``w`` to first order, and are exact for equal weights.

    Args:
        log_w: float64 ``[B, L]``, the largest of each row near 0; ``-inf`` has probability 0.
        k: ``[B]``, at most the number of finite log-weights.
    """
    log_weights, count = log_w.double().cpu().numpy(), k.cpu().numpy()
    possible = log_weights > -np.inf
    n = count_rows(possible)
    p = possible.astype(np.float64)
    p[count == 0] = 0.0
    rows = np.flatnonzero((count > 0) & (count < n))
    p[rows] = _inclusion(log_weights[rows], count[rows])
    return torch.from_numpy(p).to(log_w)


def _inclusion(log_w: NDArray[np.float64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Solve for ``x = log tau`` by Newton's method, or bisection where a step leaves the bracket; rows stop one by one."""
    low, high = (
        np.full(len(k), -40.0),
        np.maximum(-np.where(log_w > -np.inf, log_w, 0.0).min(-1, initial=0.0), 0.0) + 5.0,
    )
    x = np.clip(np.log(k) - np.log(np.exp(log_w).sum(-1)), low, high)  # exact for small k
    moving, left = np.arange(len(k)), log_w
    for _ in range(60):
        e = np.exp(left + x[moving, None])
        kept = np.exp(-e)
        excess = left.shape[1] - kept.sum(-1) - k[moving]
        here = x[moving]
        low[moving], high[moving] = np.where(excess < 0, here, low[moving]), np.where(excess < 0, high[moving], here)
        e *= kept
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = here - excess / e.sum(-1)
        inside = (newton > low[moving]) & (newton < high[moving])
        on = (np.abs(newton - here) > 1e-13) & (np.abs(excess) > 2e-15 * left.shape[1])
        x[moving] = np.where(on, np.where(inside, newton, (low[moving] + high[moving]) / 2), here)
        if not on.all():
            moving, left = moving[on], left[on]
        if not len(moving):
            break
    return -np.expm1(-np.exp(log_w + x[:, None]))


def systematic(log_w: Probabilities, p: Probabilities, eligible: Mask, k: Int[Tensor, " batch"], noise: Noise) -> Mask:
    """Select exactly ``k`` positions, each with exactly its probability ``p`` (systematic sampling in random order).

    The probabilities lie end to end on a line, in a random order for each row. One uniform number ``u`` selects the
    positions whose intervals contain ``u, u + 1, .., u + k - 1`` (Madow 1949).
    """
    order = as_tensor(as_array(noise.per_token(Stream.SELECTION, p.shape[1])).argsort(-1))
    ends = p.gather(-1, order).cumsum(-1)
    ends = torch.where(ends >= k[:, None] - 1e-9, k[:, None].to(ends.dtype), ends)  # the last end is k, up to rounding
    u = noise.per_row(Stream.OFFSET)[:, None]
    passed = torch.ceil(ends - u)  # how many of u, u + 1, .. are below each end
    selected = torch.diff(passed, dim=-1, prepend=torch.zeros_like(passed[:, :1])) > 0
    return torch.zeros_like(eligible).scatter(-1, order, selected) & eligible


def successive(log_w: Probabilities, p: Probabilities, eligible: Mask, k: Int[Tensor, " batch"], noise: Noise) -> Mask:
    """Select exactly ``k`` positions one after another by weight, without replacement (Gumbel top-k)."""
    return sample_weighted(log_w, k, eligible, noise)


@dataclass(frozen=True)
class WeightedCount:
    """Mask exactly ``k = round(mask_rate * n)`` of the ``n`` eligible positions, later ones more often.

    Position ``i`` has the log-weight ``lambda (1 - mask_rate) i`` with ``lambda = ln 2 / (half_life_ratio * length)``.
    The weight doubles over each ``half_life_ratio`` of the row as the mask rate goes to 0, and is constant at mask
    rate 1. The length runs from the first to the last eligible position, without prompt and padding.

    Attributes:
        half_life_ratio: as above; with 0.25 the last position has about 16 times the weight of the first.
        draw: ``systematic`` has exactly the stated probabilities. ``successive`` is Gumbel top-k, whose probabilities
            the stated ones approximate (to about 2% for 32 positions).
        min_count: smallest ``k`` of a row with an eligible position. With 0, rows with ``mask_rate * n`` below one half
            mask nothing, and no weight can correct for them.
        length: of the row, instead of the extent of its eligible positions.
    """

    half_life_ratio: float = 0.25
    draw: Draw = systematic
    min_count: int = 1
    length: int | None = None

    def __post_init__(self) -> None:
        if not self.half_life_ratio > 0:
            raise ValueError(
                f"half_life_ratio={self.half_life_ratio} is the fraction of a block over which the weight doubles: give a number "
                "above 0, such as 0.25 (a large one weighs all positions alike)."
            )

    def __call__(self, mask_rate: Rates, eligible: Mask, noise: Noise) -> tuple[Mask, Probabilities]:
        log_w, k = self.weights(mask_rate, eligible)
        p = inclusion(log_w, k)
        return self.draw(log_w, p, eligible, k, noise), p

    def weights(
        self, mask_rate: Rates, eligible: Mask, single: bool = False
    ) -> tuple[Probabilities, Int[Tensor, " batch"]]:
        """Return the log-weights ``[B, L]``, at most 0, and the counts ``k [B]``; ``single`` = weights in float32."""
        among, rate, (rows, width) = as_array(eligible), as_array(mask_rate), eligible.shape
        from_end = columns(rows, width, 1 - width, eligible.device, single)
        if every := all_true(among):  # the usual case, without counts of rows
            free = extents = width
        else:
            free, (first, last) = count_rows(among), extent(among)
            from_end = from_end + (width - 1 - last)[:, None]
            extents = maximum(last - first + 1, 1)
        k = rounded(rate * free)
        if self.min_count:
            k = minimum(maximum(k, self.min_count), free)
        slope = (1 - rate) / (extents if self.length is None else self.length) * (math.log(2) / self.half_life_ratio)
        log_w = as_tensor(spread(to_float32(slope) if single else slope, width) * from_end)  # the largest of a row is 0
        return log_w if every else log_w.masked_fill_(~eligible, -torch.inf), as_tensor(k)
