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
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Times = Float[Tensor, "*shape"]


@dataclass(frozen=True)
class Schedule:
    """A mask-rate curve with its derivative and inverse.

    Attributes:
        name: what a config calls it.
        rate: ``t -> p``, increasing, ``rate(0) = 0`` and ``rate(1) = 1``.
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
        return self.drate(self.inverse(p)) / p


linear = Schedule("linear", lambda t: t, torch.ones_like, lambda p: p)

# MD4's cosine schedule: alpha = 1 - cos(pi/2 (1 - t)).
cosine = Schedule(
    "cosine",
    rate=lambda t: torch.cos(math.pi / 2 * (1 - t)),
    drate=lambda t: math.pi / 2 * torch.sin(math.pi / 2 * (1 - t)),
    inverse=lambda p: 1 - torch.acos(p) * (2 / math.pi),
)

quadratic = Schedule("quadratic", lambda t: t**2, lambda t: 2 * t, torch.sqrt)

# BERT-like early emphasis: most of the time is spent at high rates.
square_root = Schedule("square_root", torch.sqrt, lambda t: 0.5 / torch.sqrt(t), lambda p: p**2)

SCHEDULES: dict[str, Schedule] = {s.name: s for s in (linear, cosine, quadratic, square_root)}


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

    def drate(t: Times) -> Times:
        with torch.enable_grad():
            at = t.detach().clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(rate(at).sum(), at)
        return slope.detach()

    def inverse(p: Times) -> Times:
        low, high = torch.zeros_like(p), torch.ones_like(p)
        for _ in range(50):
            middle = (low + high) / 2
            below = rate(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    return Schedule(getattr(rate, "__name__", "callable"), rate, drate, inverse)


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
