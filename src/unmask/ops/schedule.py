"""Noise schedules: the mask rate at time ``t``, from 0 (clean) to 1 (all masked).

A schedule is one increasing curve ``rate(t)`` from 0 to 1, with

    alpha(t)   = 1 - rate(t)          survival probability of a token
    weight(t)  = rate'(t) / rate(t)   weight of a masked token in the continuous-time bound

The weight is ``-alpha' / (1 - alpha)`` of MDLM (Sahoo et al. 2024, eq. 10) and MD4 (Shi et al. 2024, eq. 4). The same
object sets the mask rate in training and the number of tokens to unmask per step in decoding.

Times and rates are float64 tensors ``[...]``.
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
from unmask.registry import Registry

Times = Float[Tensor, "*shape"]


@dataclass(frozen=True)
class Schedule:
    """A mask-rate curve with its derivative and inverse.

    Attributes:
        name: its name in configs.
        rate: ``t -> p``, increasing, from 0 (or just above) at 0 to 1 (or just below) at 1.
        drate: ``t -> dp/dt``, never negative.
        inverse: ``p -> t``.

    Examples:
        >>> import torch
        >>> t = torch.tensor([0.25, 0.5], dtype=torch.float64)
        >>> linear = as_schedule("linear")
        >>> linear.rate(t).tolist(), linear.alpha(t).tolist(), linear.weight(t).tolist()
        ([0.25, 0.5], [0.75, 0.5], [4.0, 2.0])
    """

    name: str
    rate: Callable[[Times], Times]
    drate: Callable[[Times], Times]
    inverse: Callable[[Times], Times]

    def alpha(self, t: Times) -> Times:
        """Return the survival probability ``1 - rate(t)``."""
        return 1.0 - self.rate(t)

    def weight(self, t: Times) -> Times:
        """Return ``rate'(t) / rate(t)``: positive, ``1/t`` for the linear schedule."""
        return self.drate(t) / self.rate(t)

    def weight_at_rate(self, p: Times) -> Times:
        """Return the same weight as a function of the mask rate ``p`` instead of the time."""
        return self.drate(self.inverse(p).clamp(0.0, 1.0)) / p

    def __deepcopy__(self, memo: Any) -> Schedule:
        return self  # immutable

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise a readable error instead of pickling a lambda or a local function, which Python cannot pickle."""
        if "<" in getattr(self.rate, "__qualname__", ""):
            raise pickle.PicklingError(
                f"The schedule {self.name!r} is a lambda or a local function, and Python cannot pickle those for another process or "
                "a file. Define it with `def` at the top level of a module, or start loader workers by fork "
                "(multiprocessing_context='fork')."
            )
        return super().__reduce_ex__(protocol)


@dataclass(frozen=True)
class DiscreteTime:
    """The weight of a masked token in a bound of ``steps`` steps: MD4's discrete-time form (Shi et al. 2024, eq. 5).

    At time ``t = i/T``, with ``s = t - 1/T``, it is ``T (alpha_s - alpha_t) / (1 - alpha_t)``. Mask rates must come
    from ``DiscreteMaskRate(schedule, steps)``. Each ``T`` bounds another generative model; as ``T`` grows, the weight
    converges to that of the schedule.

    Examples:
        >>> import torch
        >>> DiscreteTime(as_schedule("linear"), steps=4).weight_at_rate(torch.tensor([0.5, 1.0])).tolist()
        [2.0, 1.0]
    """

    schedule: Schedule
    steps: int

    def weight_at_rate(self, p: Times) -> Times:
        """Return the weight as a function of the mask rate."""
        before = (self.schedule.inverse(p) - 1 / self.steps).clamp(min=0.0)
        return self.steps * (p - self.schedule.rate(before)).clamp(min=0.0) / p


@dataclass(frozen=True)
class FixedCountTime:
    """The weight of a masked token where exactly ``k = ceil(rate(t) n)`` of ``n`` tokens are masked at a uniform time.

    The weight is ``n / (k n P(k)) = 1 / (k P(k))``, with ``P(k)`` the probability of the count ``k``: the mean slope of
    the schedule over the times of this count, divided by its rate ``k / n``. For the linear schedule it is ``1/rate``;
    for any other it converges to ``rate'(t) / rate(t)`` as ``n`` grows. The sum of weighted negative log-likelihoods
    divided by ``n`` is then exactly the likelihood bound per token (docs/theory.md, "The likelihood bound"). The weight
    at the drawn time itself has an infinite expectation over the times of ``k = 1``.

    Attributes:
        schedule: of the mask rate.
        tokens: ``n``, the number of maskable tokens.
    """

    schedule: Schedule
    tokens: int

    def weight_at_rate(self, p: Times) -> Times:
        """Return the weight of rows with the fraction ``p = k / n`` masked."""
        k = (p * self.tokens).round()
        upper, lower = (self.schedule.inverse((c / self.tokens).clamp(0.0, 1.0)).clamp(0.0, 1.0) for c in (k, k - 1))
        upper = torch.where(k == self.tokens, 1.0, upper)
        lower = torch.where(k == 1, 0.0, lower)  # a count below one is raised to one
        return 1 / (k * (upper - lower).clamp(min=1e-12))


linear: Schedule = Schedule("linear", curves.line, torch.ones_like, curves.line)

# MD4's cosine schedule: alpha = 1 - cos(pi/2 (1 - t)).
cosine: Schedule = Schedule("cosine", curves.cosine, curves.cosine_slope, curves.cosine_time)

# MaskGIT's arccos: most times have low rates, and the last decoding steps unmask many tokens.
arccos: Schedule = Schedule("arccos", curves.arccos, curves.arccos_slope, curves.arccos_time)


def polynomial(power: float, name: str | None = None) -> Schedule:
    """Return ``rate = t ** power``, MD4's ``alpha = 1 - t ** w``; its weight is ``power / t``.

    Raises:
        ValueError: ``power`` is not positive.
    """
    if not power > 0:
        raise ValueError(
            f"power={power} must be above 0: the mask rate is t ** power and must increase with time. 1 is linear."
        )
    parts = (partial(curve, power) for curve in (curves.power, curves.power_slope, curves.power_time))
    return Schedule(name or f"polynomial({power:g})", *parts)


quadratic: Schedule = polynomial(2.0, "quadratic")
cubic: Schedule = polynomial(3.0, "cubic")
square_root: Schedule = polynomial(0.5, "square_root")  # most times have high rates


def geometric(sigma_min: float = 1e-5, sigma_max: float = 20.0, name: str | None = None) -> Schedule:
    """Return ``alpha = exp(-sigma)`` with ``sigma = sigma_min ** (1 - t) * sigma_max ** t`` (SEDD, MDLM, MD4).

    The mask rate starts within ``sigma_min`` of 0 and ends within ``exp(-sigma_max)`` of 1.

    Raises:
        ValueError: not ``0 < sigma_min < sigma_max``.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"A geometric schedule needs 0 < sigma_min < sigma_max; got {sigma_min} and {sigma_max}.")
    growth = math.log(sigma_max / sigma_min)
    parts = (
        partial(curve, sigma_min, growth) for curve in (curves.geometric, curves.geometric_slope, curves.geometric_time)
    )
    return Schedule(name or f"geometric({sigma_min:g}, {sigma_max:g})", *parts)


def clipped(schedule: Schedule, low: float, high: float, name: str | None = None) -> Schedule:
    """Return ``schedule`` with its rates mapped linearly to the range from ``low`` to ``high``.

    MD4 uses ``[1e-4, 1 - 1e-4]``. The bound leaves out the rates outside the range: MD4 adds ``L low ln V`` for them.

    Raises:
        ValueError: not ``0 <= low < high <= 1``.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"The range of mask rates lies in [0, 1], the lower end first; got {low} to {high}.")
    return Schedule(
        name or f"{schedule.name} in [{low:g}, {high:g}]",
        rate=partial(curves.squeezed, schedule.rate, low, high - low),
        drate=partial(curves.squeezed, schedule.drate, 0.0, high - low),
        inverse=partial(curves.unsqueezed, schedule.inverse, low, high - low),
    )


# MDLM's log-linear noise sigma = -log(1 - (1 - eps) t) has linear rates that end at 1 - eps.
log_linear: Schedule = clipped(linear, 0.0, 1 - 1e-3, "log_linear")

SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {
        "linear": (linear, "`t` (LLaDA, MDLM)"),
        "cosine": (cosine, "`cos(pi/2 (1 - t))` (MD4, MaskGIT)"),
        "quadratic": (quadratic, "`t^2`"),
        "cubic": (cubic, "`t^3`"),
        "square_root": (square_root, "`t^0.5`"),
        "arccos": (arccos, "`2/pi arccos(1 - t)` (MaskGIT)"),
        "geometric": (geometric(name="geometric"), "`1 - exp(-sigma_min^(1-t) sigma_max^t)` (SEDD, MD4)"),
        "log_linear": (log_linear, "`(1 - 1e-3) t` (MDLM)"),
    },
)


def schedule_from_callable(rate: Callable[[Times], Times]) -> Schedule:
    """Return a schedule from a function ``t -> mask rate``.

    The derivative is computed by automatic differentiation, the inverse by bisection (to 2^-50).

    Raises:
        ValueError: the curve does not run from 0 to 1, or decreases somewhere on a grid of 1,001 points.
    """
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    values = torch.as_tensor(rate(grid), dtype=torch.float64)
    if values.shape != grid.shape or abs(values[0]) > 1e-6 or abs(values[-1] - 1) > 1e-6 or (values.diff() < 0).any():
        raise ValueError(
            "A schedule given as a function must be the mask rate at time t: a tensor function with rate(0) = 0, "
            f"rate(1) = 1, never decreasing. This one starts at {float(values.flatten()[0]):.4g} and ends at "
            f"{float(values.flatten()[-1]):.4g}. If yours is the survival probability, pass lambda t: 1 - f(t)."
        )

    return Schedule(
        getattr(rate, "__name__", "callable"), rate, partial(curves.slope, rate), partial(curves.time_of, rate)
    )


def as_schedule(schedule: str | Schedule | Callable[[Times], Times]) -> Schedule:
    """Return a schedule from a name, a :class:`Schedule`, or a function.

    Args:
        schedule: a name of ``SCHEDULES``, a :class:`Schedule` (returned as it is), or a function ``t -> mask rate`` on
            float64 tensors.

    Returns:
        The schedule, with derivative and inverse.

    Raises:
        ValueError: an unknown name, or a function that is not a mask-rate curve.

    Examples:
        >>> import torch
        >>> half = torch.tensor([0.5], dtype=torch.float64)
        >>> round(as_schedule("cosine").rate(half).item(), 4)
        0.7071
        >>> round(as_schedule(lambda t: t**2).inverse(half).item(), 4)
        0.7071
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        return SCHEDULES.choose(schedule)
    return schedule_from_callable(schedule)
