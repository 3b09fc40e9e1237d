"""Mask rates: how many tokens of a row to mask.

A mask-rate law maps one uniform number per row to the row's mask rate, ``u [N] -> rate [N]``, float64 in [0, 1]. The
uniforms may be independent or spread evenly over the batch (``unmask.ops.time_sampling``).
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
    """Base class of mask-rate laws. Only :class:`MaskRateWarmup` changes during training.

    Examples:
        >>> import torch
        >>> class Low(MaskRate):
        ...     def __call__(self, u):
        ...         return 0.3 * u
        >>> Low()(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).tolist()
        [0.0, 0.15, 0.3]
    """

    def __call__(self, u: Uniforms) -> Rates:
        raise TypeError(
            f"{type(self).__name__} does not map uniform numbers to mask rates: define __call__(self, u) in it."
        )

    def draw(self, noise: Noise) -> Rates:
        """Return the mask rates of rows, from their keyed uniforms."""
        return self(noise.per_row(Stream.MASK_RATE))

    def at(self, progress: Float[Tensor, " rows"]) -> MaskRate:
        """Return the law at a training progress ``[N]`` in [0, 1]."""
        return self

    def repeated(self, times: int) -> MaskRate:
        """Return the law for ``times`` rows in place of each, one after the other, such as the blocks of a row."""
        return self


@dataclass(frozen=True)
class ConstantMaskRate(MaskRate):
    """The same rate for every row (BERT's 0.15)."""

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(
                f"A mask rate is a probability, and got {self.rate}: give a number from 0 to 1, such as 0.15."
            )

    def __call__(self, u: Uniforms) -> Rates:
        return torch.full_like(u, self.rate)

    def draw(self, noise: Noise) -> Rates:
        return torch.full(
            noise.keys.shape, self.rate, dtype=wide_dtype(noise.keys.device), device=noise.keys.device
        )  # no uniforms are needed


@dataclass(frozen=True)
class UniformMaskRate(MaskRate):
    """A mask rate uniform on ``(eps, top)``; LLaDA has ``top = 1`` (Nie et al. 2025, alg. 1).

    ``top < 1`` or a large ``eps`` is the clipped range of block diffusion (Arriola et al. 2025, section 5.2): lower
    variance in training, but no likelihood bound.
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
    """The mask rate of a schedule at a uniform time in ``[t_min, 1]`` (MDLM, MD4)."""

    schedule: Schedule
    t_min: float = 1e-3

    def __call__(self, u: Uniforms) -> Rates:
        return self.schedule.rate((1 - self.t_min) * u + self.t_min)


@dataclass(frozen=True)
class DiscreteMaskRate(MaskRate):
    """The mask rate of a schedule at one of the times ``1/T, 2/T, .., 1``, equally likely (MD4's discrete-time
    form).
    """

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
    """A blend from one law to another over the first fraction ``over`` of training.

    ``MaskRateWarmup(ConstantMaskRate(0.3), ConstantMaskRate(0.15))`` lowers the rate (Ankner et al. 2023, 2305.15096).
    Rows carry the training progress in their field ``progress``, in [0, 1].
    """

    start: MaskRate
    end: MaskRate
    over: float = 1.0
    progress: Float[Tensor, " rows"] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.over <= 1.0:
            raise ValueError(
                f"over={self.over} is the fraction of training during which the mask rate changes: give one in (0, 1]."
            )

    def at(self, progress: Float[Tensor, " rows"]) -> MaskRate:
        return MaskRateWarmup(self.start, self.end, self.over, progress)

    def repeated(self, times: int) -> MaskRate:
        progress = None if self.progress is None else self.progress.repeat_interleave(times)
        return MaskRateWarmup(self.start.repeated(times), self.end.repeated(times), self.over, progress)

    def __call__(self, u: Uniforms) -> Rates:
        if self.progress is None:
            raise ValueError(
                "A mask-rate warm-up needs the training progress of every row: give the field 'progress', the fraction of "
                "training that is done, such as {'input_ids': ids, 'progress': step / total_steps}."
            )
        fraction = (self.progress.to(u) / self.over).clamp(0.0, 1.0)
        return (1 - fraction) * self.start(u) + fraction * self.end(u)
