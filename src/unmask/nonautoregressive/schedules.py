"""Mask-rate schedules of a wrapper, from a name, a number, or a function in either time direction.

A function of time is the fraction masked. Its end values decide the direction: this package masks everything at 1, x-transformers at 0.

    s(0) <  s(1)   rate(t) = s(t)
    s(0) >  s(1)   rate(t) = s(1 - t)
    s(0) == s(1)   a constant mask rate: no likelihood weight, which is the slope of the schedule

Without a likelihood weight the end values may differ from 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.ops.schedule import Schedule, as_schedule, clipped, linear, schedule_from_callable

Curve = Callable[[Tensor], Tensor]
_NEGLIGIBLE = 1e-6  # rounding error at an end, such as cos(pi / 2)


@dataclass(frozen=True)
class _Mirrored:
    """A curve with time reversed."""

    curve: Curve

    def __call__(self, t: Tensor) -> Tensor:
        return self.curve(1.0 - t)


@dataclass(frozen=True)
class _Stretched:
    """A curve from ``low`` to ``high``, rescaled to run from 0 to 1."""

    curve: Curve
    low: float
    high: float

    def __call__(self, t: Tensor) -> Tensor:
        return (self.curve(t) - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class _Constant:
    """A constant mask rate."""

    fraction: float

    def rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.fraction)

    def slope(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


def wrapper_schedule(schedule: str | float | Schedule | Curve, weighted: bool) -> Schedule:
    """Return the mask-rate schedule of a wrapper's ``schedule``.

    Args:
        schedule: a name, a ``Schedule``, a constant mask rate, or a function of a float64 tensor of times in [0, 1].
        weighted: True if the loss is weighted by the slope of the schedule.

    Raises:
        ValueError: an unknown name, fractions outside [0, 1], a curve that is not monotonic, or one without a likelihood weight.
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
            f"A schedule given as a function is the fraction masked at time t, between 0 and 1: it must rise from 0 to 1, or fall from 1 to 0, "
            f"monotonically. This one starts at {start:.4g} and ends at {end:.4g}"
            + (", and is not monotonic." if turns else ".")
            + (
                " Other end values within [0, 1] need use_simple_mdlm_loss_weight=False."
                if weighted and not turns
                else ""
            )
        )
    if full:
        return schedule_from_callable(curve)
    return clipped(schedule_from_callable(_Stretched(curve, low, high)), low, high)


def reveal_plan(schedule: Schedule) -> Schedule:
    """Return the schedule of generation: the same, or the linear one for a constant mask rate."""
    start, end = schedule.rate(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    return linear if start == end else schedule


def _values(curve: Curve) -> Tensor:
    """Return the curve at 1,001 times, float64."""
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    try:
        values = torch.as_tensor(curve(times), dtype=torch.float64).detach()
        return values.expand(times.shape) if values.dim() == 0 else values.reshape(times.shape)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"A schedule given as a function is called with a tensor of times and returns a fraction masked for each; this one failed ({error}). "
            "Write it with torch, such as lambda t: torch.cos(t * torch.pi / 2)."
        ) from error


def _constant(fraction: float, weighted: bool) -> Schedule:
    if not 0.0 < fraction <= 1.0:
        raise ValueError(
            f"A constant schedule of {fraction:g} is not a fraction of the tokens: give a number above 0 and at most 1."
        )
    if weighted:
        raise ValueError(
            f"A constant schedule ({fraction:g} of the tokens are masked at all times) has slope 0, and the likelihood weight is the slope. Give "
            "use_simple_mdlm_loss_weight=False for the mean over masked tokens, or a schedule that runs from 0 to 1."
        )
    constant = _Constant(fraction)
    return Schedule(f"constant({fraction:g})", constant.rate, constant.slope, constant.slope)
