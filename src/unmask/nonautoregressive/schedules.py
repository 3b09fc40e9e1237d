"""The schedule that a caller of the wrapper means, from a name, a number, or a function in either direction.

A function of time is the fraction hidden. Its ends say which way its time runs: this package hides all at 1, x-transformers at 0.

    s(0) <= s(1)   rate(t) = s(t)
    s(0) >  s(1)   rate(t) = s(1 - t)
    s(0) == s(1)   a constant share: no likelihood weight, since that is the slope of the schedule

Without a likelihood weight the ends may also be others than 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.ops.schedule import Schedule, as_schedule, clipped, linear, schedule_from_callable

Curve = Callable[[Tensor], Tensor]
_NEGLIGIBLE = 1e-6  # what rounding leaves at an end, such as cos(pi / 2)


@dataclass(frozen=True)
class _Mirrored:
    """A curve with its time reversed."""

    curve: Curve

    def __call__(self, t: Tensor) -> Tensor:
        return self.curve(1.0 - t)


@dataclass(frozen=True)
class _Stretched:
    """A curve from ``low`` to ``high``, brought to run from 0 to 1."""

    curve: Curve
    low: float
    high: float

    def __call__(self, t: Tensor) -> Tensor:
        return (self.curve(t) - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class _Constant:
    """The same share at all times."""

    share: float

    def rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.share)

    def slope(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


def wrapper_schedule(schedule: str | float | Schedule | Curve, weighted: bool) -> Schedule:
    """The mask-rate curve of a wrapper's ``schedule``.

    Args:
        schedule: a name, a ``Schedule``, a constant share, or a function of a float64 tensor of times in [0, 1].
        weighted: the loss is weighed by the slope of the schedule.

    Raises:
        ValueError: an unknown name, shares outside [0, 1], a curve that turns back, or one that has no likelihood weight.
    """
    if isinstance(schedule, str | Schedule):
        return as_schedule(schedule)
    if not callable(schedule):
        return _constant(float(schedule), weighted)
    values = _values(schedule)
    start, end = float(values[0]), float(values[-1])
    if float(values.max() - values.min()) <= _NEGLIGIBLE:
        return _constant(start, weighted)
    curve: Curve = _Mirrored(schedule) if start > end else schedule
    low, high = min(start, end), max(start, end)
    full = abs(low) <= _NEGLIGIBLE and abs(high - 1.0) <= _NEGLIGIBLE
    turns = bool((values.diff() * (end - start) < 0).any())
    if turns or low < -_NEGLIGIBLE or high > 1.0 + _NEGLIGIBLE or (weighted and not full):
        raise ValueError(
            f"A schedule given as a function must be the fraction hidden at time t, between 0 and 1: rising from 0 to 1, or falling from 1 to 0, "
            f"and never turning back. This one starts at {start:.4g} and ends at {end:.4g}"
            + (", and turns back between." if turns else ".")
            + (" Other ends within [0, 1] need use_simple_mdlm_loss_weight=False." if weighted and not turns else "")
        )
    if full:
        return schedule_from_callable(curve)
    return clipped(schedule_from_callable(_Stretched(curve, low, high)), low, high)


def reveal_plan(schedule: Schedule) -> Schedule:
    """The schedule by which generation reveals tokens: the same, or the linear one where the share never changes."""
    start, end = schedule.rate(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    return linear if start == end else schedule


def _values(curve: Curve) -> Tensor:
    """The curve at 1,001 times, float64."""
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    try:
        values = torch.as_tensor(curve(times), dtype=torch.float64).detach()
        return values.expand(times.shape) if values.dim() == 0 else values.reshape(times.shape)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"A schedule given as a function is called with a tensor of times and returns as many fractions hidden; this one failed ({error}). "
            "Write it with torch, such as lambda t: torch.cos(t * torch.pi / 2)."
        ) from error


def _constant(share: float, weighted: bool) -> Schedule:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"A constant schedule of {share:g} is no share of the tokens: give one above 0 and at most 1.")
    if weighted:
        raise ValueError(
            f"A constant schedule ({share:g} of the tokens are hidden at all times) has no slope, and the likelihood weight is its slope. Give "
            "use_simple_mdlm_loss_weight=False for the mean over hidden tokens, or a schedule that runs from 0 to 1."
        )
    made = _Constant(share)
    return Schedule(f"constant({share:g})", made.rate, made.slope, made.slope)
