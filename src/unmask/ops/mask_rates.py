"""Levels: how much of a row to hide.

A level law turns a uniform number of each row into its mask rate, ``u [N] -> rate [N]``, float64 in [0, 1]. Where the
uniforms come from (independent, stratified over the batch) is another question: ``unmask.ops.time_sampling``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.arrays import as_array, as_tensor
from unmask.devices import wide_dtype
from unmask.ops.schedule import Schedule
from unmask.randomness import Noise, Stream

Uniforms = Float[Tensor, " rows"]
Rates = Float[Tensor, " rows"]


class MaskRate:
    """A law of the mask rate. Only a curriculum changes with training; all others are themselves at any time."""

    def __call__(self, u: Uniforms) -> Rates:
        raise TypeError(f"{type(self).__name__} must say how a uniform number becomes a mask rate: define __call__(u).")

    def draw(self, noise: Noise) -> Rates:
        """The rates of rows, from their own uniform numbers."""
        return self(noise.per_row(Stream.MASK_RATE))

    def at(self, progress: Float[Tensor, " rows"]) -> MaskRate:
        """The law when the share ``progress`` of training is done, one value a row."""
        return self


@dataclass(frozen=True)
class ConstantMaskRate(MaskRate):
    """The same rate for every row (BERT's 0.15)."""

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(
                f"A mask rate is a probability, and {self.rate} is not: give a number from 0 to 1, such as 0.15."
            )

    def __call__(self, u: Uniforms) -> Rates:
        return torch.full_like(u, self.rate)

    def draw(self, noise: Noise) -> Rates:
        return torch.full(
            noise.keys.shape, self.rate, dtype=wide_dtype(noise.keys.device), device=noise.keys.device
        )  # no uniforms are needed


@dataclass(frozen=True)
class UniformMaskRate(MaskRate):
    """Every rate from ``eps`` to ``top`` equally likely (LLaDA, Nie et al. 2025, alg. 1, has ``top = 1``).

    A ``top`` below 1 or a large ``eps`` is the clipped range of block diffusion (Arriola et al. 2025, section 5.2),
    which lowers the variance of training and is no longer a bound.
    """

    eps: float = 1e-3
    top: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eps < 1.0:
            raise ValueError(f"eps is the smallest mask rate and must lie in [0, 1); got {self.eps}.")
        if not self.eps < self.top <= 1.0:
            raise ValueError(
                f"top is the largest mask rate and must lie in (eps, 1]; got {self.top} beside eps={self.eps}."
            )

    def __call__(self, u: Uniforms) -> Rates:
        return as_tensor((self.top - self.eps) * as_array(u) + self.eps)


@dataclass(frozen=True)
class ScheduleMaskRate(MaskRate):
    """The rate of a schedule at a uniform time in ``[t_min, 1]``."""

    schedule: Schedule
    t_min: float = 1e-3

    def __call__(self, u: Uniforms) -> Rates:
        return self.schedule.rate((1 - self.t_min) * u + self.t_min)


@dataclass(frozen=True)
class DiscreteMaskRate(MaskRate):
    """The rate of a schedule at one of the times ``1/T, 2/T, .., 1``, equally likely (MD4's discrete-time form)."""

    schedule: Schedule
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(
                f"steps={self.steps}: a discrete-time objective needs at least one step, such as steps=1000."
            )

    def __call__(self, u: Uniforms) -> Rates:
        return self.schedule.rate(torch.ceil(u * self.steps).clamp(1, self.steps) / self.steps)


@dataclass(frozen=True)
class MaskRateWarmup(MaskRate):
    """One law at the start of training, another from the share ``over`` of it on, and a straight blend between.

    For example ``Curriculum(ConstantLevel(0.3), ConstantLevel(0.15))`` (falling rates: Ankner et al. 2023, 2305.15096).
    Rows say how far training is with a field ``progress`` in [0, 1].
    """

    start: MaskRate
    end: MaskRate
    over: float = 1.0
    progress: Float[Tensor, " rows"] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.over <= 1.0:
            raise ValueError(
                f"over={self.over} is the share of training in which the mask rate changes: give one in (0, 1]."
            )

    def at(self, progress: Float[Tensor, " rows"]) -> MaskRate:
        return MaskRateWarmup(self.start, self.end, self.over, progress)

    def __call__(self, u: Uniforms) -> Rates:
        if self.progress is None:
            raise ValueError(
                "A mask-rate curriculum needs to know how far training is: give every row the field 'progress', the share of "
                "training done, such as {'input_ids': ids, 'progress': step / total_steps}."
            )
        share = (self.progress.to(u) / self.over).clamp(0.0, 1.0)
        return (1 - share) * self.start(u) + share * self.end(u)
