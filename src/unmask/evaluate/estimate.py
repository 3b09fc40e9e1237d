"""A ratio of two totals over documents, with its uncertainty.

Bits per byte is ``sum of bits / sum of bytes``. Documents are the independent unit: the delta method gives the variance of
the ratio from the spread of ``bits_d - ratio * bytes_d`` over documents (Cochran 1977, section 6.4). That spread holds both
the difference between documents and the noise of the estimate within each.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A number and how well it is known.

    Attributes:
        value: the estimate.
        low, high: its 95% confidence interval over documents like these; NaN where fewer than two documents tell nothing.
        monte_carlo_error: standard error that comes from sampling what is hidden, for these very documents; it falls with
            more samples. NaN with one sample.
    """

    value: float
    low: float
    high: float
    monte_carlo_error: float = math.nan

    def scaled(self, factor: float) -> Estimate:
        """The same in other units."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.monte_carlo_error * factor)

    def exponential(self) -> Estimate:
        """``exp`` of the estimate and of its interval; the error by the delta method."""
        with np.errstate(over="ignore"):
            value, low, high = (float(np.exp(number)) for number in (self.value, self.low, self.high))
        return Estimate(value, low, high, value * self.monte_carlo_error)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has neither NaN nor infinity: they are None."""
        return {name: number if math.isfinite(number) else None for name, number in asdict(self).items()}

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.4g}"
        return f"{self.value:.4g} (95% {self.low:.4g} to {self.high:.4g})"


def ratio(numerator: NDArray[Any], denominator: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """``sum(numerator) / sum(denominator)`` with its interval.

    Args:
        numerator: float ``[R, D]``: ``R`` independent passes over ``D`` documents, whose mean is the estimate.
        denominator: ``[D]``, or ``[R, D]`` where passes differ in it.
        confidence: of the interval.

    Raises:
        ValueError: the denominator is zero everywhere.
    """
    passes = len(numerator)
    below = np.broadcast_to(denominator, numerator.shape).astype(np.float64)
    over, under = numerator.mean(0), below.mean(0)
    if not under.sum() > 0:
        raise ValueError(
            "A ratio was asked for whose denominator is zero: the documents have no tokens, bytes or words of that kind."
        )
    value = over.sum() / under.sum()
    counted = under > 0
    n = int(counted.sum())
    half = math.nan
    if n >= 2:
        residual = (over - value * under)[counted]
        half = (
            student_quantile(0.5 + confidence / 2, n - 1) * math.sqrt(n / (n - 1) * (residual**2).sum()) / under.sum()
        )
    noise = math.nan
    if passes >= 2:
        residual = (numerator - value * below).sum(-1)
        noise = residual.std(ddof=1) / math.sqrt(passes) / under.sum()
    return Estimate(float(value), float(value - half), float(value + half), float(noise))


def student_quantile(p: float, degrees: int) -> float:
    """Quantile of Student's t, from the normal one: exact for 1 and 2 degrees, else Abramowitz and Stegun 26.7.5."""
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z, v = NormalDist().inv_cdf(p), degrees
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v ** (power + 1) for power, term in enumerate(terms))


def share(right: int, asked: int, confidence: float = 0.95) -> Estimate:
    """How often a thing is right, from ``right`` of ``asked`` independent cases, with Wilson's interval (1927).

    It stays inside [0, 1] and is honest at the ends: none right of 1,000 leaves up to 0.4%.

    Raises:
        ValueError: no case was asked, or more are right than were asked.
    """
    if asked < 1 or not 0 <= right <= asked:
        raise ValueError(
            f"A share of right answers needs at least one that was asked for and no more right than that; got {right} of {asked}."
        )
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    p, n = right / asked, asked
    centre, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    low, high = ((centre + side * half) / (1 + z2 / n) for side in (-1, 1))
    return Estimate(p, 0.0 if right == 0 else low, 1.0 if right == asked else high)
