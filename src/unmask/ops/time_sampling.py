"""Time sampling: the uniform number of each row, from which its mask rate follows, spread evenly over the global batch.

Independent uniforms add variance to a batch's loss. Under each law here, the number of a row is marginally uniform
over seeds, and the rows of a batch cover (0, 1) evenly (docs/theory.md, "Variance of the estimate"). A law is
``(seed, epoch, place) -> uniforms``, with ``place`` the row's index in the order of its epoch, so that batches may be
divided over ranks, workers and accumulation steps in any way.

    low_discrepancy     frac(offset + place * golden ratio)   even over any run of places (unmask.randomness)
    SharedOffset(n)     frac(offset + i / n)                  MD4: one offset for each n rows
    Stratified(n)       (i + u_i) / n                         MDLM: one row in each of n strata, jittered
    antithetic          u, 1 - u                              pairs of adjacent places

``i = place mod n`` is the row's index in its global batch of ``n``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.devices import wide
from unmask.randomness import Stream, fold, row_keys, uniform

TimeSampling = Callable[[int, int | Tensor, Int[Tensor, " batch"]], Float[Tensor, " batch"]]


def _uniforms(seed: int, epoch: int | Tensor, who: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return uniform(fold(row_keys(seed, epoch, who), int(Stream.MASK_RATE)))


@dataclass(frozen=True)
class SharedOffset:
    """One random offset for each global batch of ``rows`` rows, which are ``1 / rows`` apart (Shi et al. 2024)."""

    rows: int

    def __post_init__(self) -> None:
        _check(self.rows)

    def __call__(self, seed: int, epoch: int | Tensor, places: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        offset = _uniforms(seed, epoch, places // self.rows)
        return (offset + wide(places % self.rows) / self.rows).frac().clamp(min=2.0**-53)


@dataclass(frozen=True)
class Stratified:
    """One row in each of ``rows`` equal strata of (0, 1), uniform within it (Sahoo et al. 2024)."""

    rows: int

    def __post_init__(self) -> None:
        _check(self.rows)

    def __call__(self, seed: int, epoch: int | Tensor, places: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        # Rotate the strata from batch to batch; otherwise a place would not be uniform over seeds.
        turn = (_uniforms(seed, epoch, -1 - places // self.rows) * self.rows).long()
        part = (places + turn) % self.rows
        return ((wide(part) + _uniforms(seed, epoch, places)) / self.rows).clamp(max=1 - 2.0**-53)


def antithetic(seed: int, epoch: int | Tensor, places: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return ``u`` for even places and ``1 - u`` for the odd place after it."""
    u = _uniforms(seed, epoch, places // 2)
    return torch.where(places % 2 == 0, u, 1 - u)


def _check(rows: int) -> None:
    if rows < 1:
        raise ValueError(
            f"rows={rows} is the number of rows of a global batch, over all ranks and accumulation steps: at least 1."
        )
