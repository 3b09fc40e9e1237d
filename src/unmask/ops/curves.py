"""The curves of schedules: mask rate over time, its slope, and the time of a rate.

They are plain functions of a module, so that a schedule can be pickled for loader workers and checkpoints. What a family has besides the
time comes first, for ``functools.partial``.

Times and rates are tensors ``[...]``; so are the answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Curve = Callable[[Tensor], Tensor]


def line(t: Tensor) -> Tensor:
    """``t``; its own inverse."""
    return t


def cosine(t: Tensor) -> Tensor:
    """``cos(pi/2 (1 - t))``."""
    return torch.cos(math.pi / 2 * (1 - t))


def cosine_slope(t: Tensor) -> Tensor:
    """The derivative of :func:`cosine`."""
    return math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))


def cosine_time(p: Tensor) -> Tensor:
    """The inverse of :func:`cosine`."""
    return 1 - torch.acos(p) * (2 / math.pi)


def arccos(t: Tensor) -> Tensor:
    """``acos(1 - t) 2/pi``."""
    return torch.acos(1 - t) * (2 / math.pi)


def arccos_slope(t: Tensor) -> Tensor:
    """The derivative of :func:`arccos`."""
    return (2 / math.pi) / torch.sqrt(t * (2 - t))


def arccos_time(p: Tensor) -> Tensor:
    """The inverse of :func:`arccos`."""
    return 1 - torch.cos(math.pi / 2 * p)


def power(exponent: float, t: Tensor) -> Tensor:
    """``t ** exponent``."""
    return t**exponent


def power_slope(exponent: float, t: Tensor) -> Tensor:
    """The derivative of :func:`power`."""
    return exponent * t ** (exponent - 1)


def power_time(exponent: float, p: Tensor) -> Tensor:
    """The inverse of :func:`power`."""
    return p ** (1 / exponent)


def geometric(sigma_min: float, growth: float, t: Tensor) -> Tensor:
    """``1 - exp(-sigma)`` with ``sigma = sigma_min exp(growth t)``."""
    return -torch.expm1(-_sigma(sigma_min, growth, t))


def geometric_slope(sigma_min: float, growth: float, t: Tensor) -> Tensor:
    """The derivative of :func:`geometric`."""
    sigma = _sigma(sigma_min, growth, t)
    return growth * sigma * torch.exp(-sigma)


def geometric_time(sigma_min: float, growth: float, p: Tensor) -> Tensor:
    """The inverse of :func:`geometric`."""
    return torch.log(-torch.log1p(-p) / sigma_min) / growth


def _sigma(sigma_min: float, growth: float, t: Tensor) -> Tensor:
    return sigma_min * torch.exp(growth * t)


def squeezed(curve: Curve, low: float, width: float, t: Tensor) -> Tensor:
    """``low + width curve(t)``."""
    return low + width * curve(t)


def unsqueezed(inverse: Curve, low: float, width: float, p: Tensor) -> Tensor:
    """The inverse of :func:`squeezed`, from that of the curve; rates outside its range go to its ends."""
    return inverse(((p - low) / width).clamp(0.0, 1.0))


def slope(rate: Curve, t: Tensor) -> Tensor:
    """The derivative of any curve, by automatic differentiation."""
    with torch.enable_grad():
        at = t.detach().clone().requires_grad_(True)
        (found,) = torch.autograd.grad(rate(at).sum(), at)
    return found.detach()


def time_of(rate: Curve, p: Tensor) -> Tensor:
    """The inverse of any increasing curve from 0 to 1, by bisection (to 2^-50)."""
    low, high = torch.zeros_like(p), torch.ones_like(p)
    for _ in range(50):
        middle = (low + high) / 2
        below = rate(middle) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
