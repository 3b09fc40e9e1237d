"""The curves of schedules: mask rate as a function of time, its derivative and its inverse.

They are module-level functions, so that a schedule can be pickled for loader workers and checkpoints. Parameters come
before the time, for ``functools.partial``.

Arguments and results are tensors ``[...]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Curve = Callable[[Tensor], Tensor]


def line(t: Tensor) -> Tensor:
    """Return ``t``; its own inverse."""
    return t


def cosine(t: Tensor) -> Tensor:
    """Return ``cos(pi/2 (1 - t))``."""
    return torch.cos(math.pi / 2 * (1 - t))


def cosine_slope(t: Tensor) -> Tensor:
    """Return the derivative of :func:`cosine`."""
    return math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))


def cosine_time(p: Tensor) -> Tensor:
    """Return the inverse of :func:`cosine`."""
    return 1 - torch.acos(p) * (2 / math.pi)


def arccos(t: Tensor) -> Tensor:
    """Return ``acos(1 - t) 2/pi``."""
    return torch.acos(1 - t) * (2 / math.pi)


def arccos_slope(t: Tensor) -> Tensor:
    """Return the derivative of :func:`arccos`."""
    return (2 / math.pi) / torch.sqrt(t * (2 - t))


def arccos_time(p: Tensor) -> Tensor:
    """Return the inverse of :func:`arccos`."""
    return 1 - torch.cos(math.pi / 2 * p)


def power(exponent: float, t: Tensor) -> Tensor:
    """Return ``t ** exponent``."""
    return t**exponent


def power_slope(exponent: float, t: Tensor) -> Tensor:
    """Return the derivative of :func:`power`."""
    return exponent * t ** (exponent - 1)


def power_time(exponent: float, p: Tensor) -> Tensor:
    """Return the inverse of :func:`power`."""
    return p ** (1 / exponent)


def geometric(sigma_min: float, growth: float, t: Tensor) -> Tensor:
    """Return ``1 - exp(-sigma)`` with ``sigma = sigma_min exp(growth t)``."""
    return -torch.expm1(-_sigma(sigma_min, growth, t))


def geometric_slope(sigma_min: float, growth: float, t: Tensor) -> Tensor:
    """Return the derivative of :func:`geometric`."""
    sigma = _sigma(sigma_min, growth, t)
    return growth * sigma * torch.exp(-sigma)


def geometric_time(sigma_min: float, growth: float, p: Tensor) -> Tensor:
    """Return the inverse of :func:`geometric`."""
    return torch.log(-torch.log1p(-p) / sigma_min) / growth


def _sigma(sigma_min: float, growth: float, t: Tensor) -> Tensor:
    return sigma_min * torch.exp(growth * t)


def squeezed(curve: Curve, low: float, width: float, t: Tensor) -> Tensor:
    """Return ``low + width curve(t)``."""
    return low + width * curve(t)


def unsqueezed(inverse: Curve, low: float, width: float, p: Tensor) -> Tensor:
    """Return the inverse of :func:`squeezed` from that of the curve; rates outside the range are clamped."""
    return inverse(((p - low) / width).clamp(0.0, 1.0))


def slope(rate: Curve, t: Tensor) -> Tensor:
    """Return the derivative of any curve, by automatic differentiation."""
    with torch.enable_grad():
        at = t.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(rate(at).sum(), at)
    return gradient.detach()


def time_of(rate: Curve, p: Tensor) -> Tensor:
    """Return the inverse of any increasing curve from 0 to 1, by bisection (to 2^-50)."""
    low, high = torch.zeros_like(p), torch.ones_like(p)
    for _ in range(50):
        middle = (low + high) / 2
        below = rate(middle) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
