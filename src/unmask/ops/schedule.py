"""Schedules: how much of a row is hidden at time ``t``, from 0 (clean) to 1 (all hidden).

A schedule is one increasing curve ``rate(t)`` from 0 to 1. Everything else follows from it:

    alpha(t)   = 1 - rate(t)          survival: the share still visible
    weight(t)  = rate'(t) / rate(t)   the weight of a hidden token in the continuous-time bound

which is ``-alpha' / (1 - alpha)`` of MDLM (Sahoo et al. 2024, eq. 10) and MD4 (Shi et al. 2024, eq. 4). The same
object sets the corruption level in training and the reveal budget in decoding.

Times are float64 tensors ``[...]``; so are the answers.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.ops import curves

Times = Float[Tensor, "*shape"]


@dataclass(frozen=True)
class Schedule:
    """A mask-rate curve with its derivative and inverse.

    Attributes:
        name: what a config calls it.
        rate: ``t -> p``, increasing, from 0 (or just above) at 0 to 1 (or just below) at 1.
        drate: ``t -> dp/dt``, never negative.
        inverse: ``p -> t``.
    """

    name: str
    rate: Callable[[Times], Times]
    drate: Callable[[Times], Times]
    inverse: Callable[[Times], Times]

    def alpha(self, t: Times) -> Times:
        """The survival probability ``1 - rate(t)``."""
        return 1.0 - self.rate(t)

    def weight(self, t: Times) -> Times:
        """``rate'(t) / rate(t)``: positive, ``1/t`` for the linear schedule."""
        return self.drate(t) / self.rate(t)

    def weight_at_rate(self, p: Times) -> Times:
        """The same weight, for a row whose mask rate ``p`` is known instead of its time."""
        return self.drate(self.inverse(p).clamp(0.0, 1.0)) / p

    def __deepcopy__(self, memo: Any) -> Schedule:
        return self  # nothing in it ever changes

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse, in words, to copy to another process a curve that the other process could not find."""
        if "<" in getattr(self.rate, "__qualname__", ""):
            raise pickle.PicklingError(
                f"The schedule {self.name!r} is a lambda or a function inside another one, and Python cannot send those to another process or "
                "write them to a file. Define it with `def` at the top level of a module, or start loader workers by fork "
                "(multiprocessing_context='fork')."
            )
        return super().__reduce_ex__(protocol)


@dataclass(frozen=True)
class DiscreteTime:
    """The weight of a hidden token in a bound of ``steps`` steps: MD4's discrete-time form (Shi et al. 2024, eq. 5).

    At time ``t = i/T``, with ``s = t - 1/T``, it is ``T (alpha_s - alpha_t) / (1 - alpha_t)``. Levels must come from
    ``DiscreteLevel(schedule, steps)``. Each ``T`` bounds a generative model of its own; as it grows, the weight goes to
    the schedule's.
    """

    schedule: Schedule
    steps: int

    def weight_at_rate(self, p: Times) -> Times:
        """The weight, for a row whose mask rate is known instead of its time."""
        before = (self.schedule.inverse(p) - 1 / self.steps).clamp(min=0.0)
        return self.steps * (p - self.schedule.rate(before)).clamp(min=0.0) / p


@dataclass(frozen=True)
class FixedCountTime:
    """The weight of a hidden token where exactly ``k = ceil(rate(t) n)`` of ``n`` tokens are hidden at a uniform time.

    It is ``slope / rate`` with ``rate = k / n`` and the mean slope of the schedule over the times at which just ``k`` are hidden:
    ``1 / (k P(k))``, ``P(k)`` being the probability of that count. For the linear schedule that is ``1/rate``, and for any other it
    goes to ``rate'(t) / rate(t)`` as ``n`` grows. The sum of weighted negative log-likelihoods over ``n`` is then the likelihood
    bound per token, exactly, under every schedule (docs/theory.md, the likelihood bound). The weight at the drawn time itself would not do: over the
    times at which one token is hidden its expectation is infinite.

    Attributes:
        schedule: of the mask rate.
        tokens: ``n``, how many could be hidden.
    """

    schedule: Schedule
    tokens: int

    def weight_at_rate(self, p: Times) -> Times:
        """The weight, for a row of which the share ``p = k / n`` is hidden."""
        k = (p * self.tokens).round()
        upper, lower = (self.schedule.inverse((c / self.tokens).clamp(0.0, 1.0)).clamp(0.0, 1.0) for c in (k, k - 1))
        upper = torch.where(k == self.tokens, 1.0, upper)
        lower = torch.where(k == 1, 0.0, lower)  # where less than one token is asked for, one is hidden
        return 1 / (k * (upper - lower).clamp(min=1e-12))


linear = Schedule("linear", curves.line, torch.ones_like, curves.line)

# MD4's cosine schedule: alpha = 1 - cos(pi/2 (1 - t)).
cosine = Schedule("cosine", curves.cosine, curves.cosine_slope, curves.cosine_time)

# MaskGIT's arccos: most of the time is spent at low rates, and the last steps reveal much.
arccos = Schedule("arccos", curves.arccos, curves.arccos_slope, curves.arccos_time)


def polynomial(power: float, name: str | None = None) -> Schedule:
    """``rate = t ** power``, MD4's ``alpha = 1 - t ** w``; its weight is ``power / t``.

    Raises:
        ValueError: ``power`` is not positive.
    """
    if not power > 0:
        raise ValueError(
            f"power={power} must be above 0, or the mask rate t ** power would not rise with time; 1 is linear."
        )
    made = (partial(curve, power) for curve in (curves.power, curves.power_slope, curves.power_time))
    return Schedule(name or f"polynomial({power:g})", *made)


quadratic = polynomial(2.0, "quadratic")
cubic = polynomial(3.0, "cubic")
square_root = polynomial(0.5, "square_root")  # like BERT's early emphasis: most of the time is spent at high rates


def geometric(sigma_min: float = 1e-5, sigma_max: float = 20.0, name: str | None = None) -> Schedule:
    """``alpha = exp(-sigma)`` with ``sigma = sigma_min ** (1 - t) * sigma_max ** t`` (SEDD, MDLM, MD4).

    It starts and ends within ``sigma_min`` and ``exp(-sigma_max)`` of 0 and 1.

    Raises:
        ValueError: not ``0 < sigma_min < sigma_max``.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"A geometric schedule needs 0 < sigma_min < sigma_max, and got {sigma_min} and {sigma_max}.")
    growth = math.log(sigma_max / sigma_min)
    made = (
        partial(curve, sigma_min, growth) for curve in (curves.geometric, curves.geometric_slope, curves.geometric_time)
    )
    return Schedule(name or f"geometric({sigma_min:g}, {sigma_max:g})", *made)


def clipped(schedule: Schedule, low: float, high: float, name: str | None = None) -> Schedule:
    """``schedule`` squeezed to rates from ``low`` to ``high``.

    MD4 squeezes to ``[1e-4, 1 - 1e-4]``. What lies outside is left out of the bound: MD4 adds ``L low ln V`` for it.

    Raises:
        ValueError: not ``0 <= low < high <= 1``.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(
            f"Mask rates are clipped to a range within [0, 1], from a lower to a higher one; got {low} to {high}."
        )
    return Schedule(
        name or f"{schedule.name} in [{low:g}, {high:g}]",
        rate=partial(curves.squeezed, schedule.rate, low, high - low),
        drate=partial(curves.squeezed, schedule.drate, 0.0, high - low),
        inverse=partial(curves.unsqueezed, schedule.inverse, low, high - low),
    )


# MDLM's log-linear noise sigma = -log(1 - (1 - eps) t) is a straight line of rates that stops short of 1.
log_linear = clipped(linear, 0.0, 1 - 1e-3, "log_linear")

SCHEDULES: dict[str, Schedule] = {
    s.name: s for s in (linear, cosine, quadratic, cubic, square_root, arccos, geometric(name="geometric"), log_linear)
}


def schedule_from_callable(rate: Callable[[Times], Times]) -> Schedule:
    """A schedule from the caller's own mask-rate curve.

    The derivative is taken by automatic differentiation, the inverse by bisection (to 2^-50).

    Raises:
        ValueError: the curve does not run from 0 to 1, or decreases somewhere on a grid of 1,001 points.
    """
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    values = torch.as_tensor(rate(grid), dtype=torch.float64)
    if values.shape != grid.shape or abs(values[0]) > 1e-6 or abs(values[-1] - 1) > 1e-6 or (values.diff() < 0).any():
        raise ValueError(
            "A schedule given as a function must be the fraction hidden at time t: a tensor function with rate(0) = 0, "
            f"rate(1) = 1, never decreasing. This one starts at {float(values.flatten()[0]):.4g} and ends at "
            f"{float(values.flatten()[-1]):.4g}. If yours is the fraction still visible, pass lambda t: 1 - f(t)."
        )

    return Schedule(
        getattr(rate, "__name__", "callable"), rate, partial(curves.slope, rate), partial(curves.time_of, rate)
    )


def as_schedule(schedule: str | Schedule | Callable[[Times], Times]) -> Schedule:
    """The schedule a caller means: a name, an object of this module, or a function ``t -> fraction hidden``.

    Raises:
        ValueError: an unknown name, or a function that is not a mask-rate curve.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(f"There is no schedule named {schedule!r}. Choose one of {', '.join(SCHEDULES)}.")
        return SCHEDULES[schedule]
    return schedule_from_callable(schedule)
