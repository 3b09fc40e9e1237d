"""A ratio of two totals over documents, with its uncertainty.

Bits per byte is ``sum of bits / sum of bytes``. Documents are the independent unit: the delta method derives the
variance of the ratio from the spread of ``bits_d - ratio * bytes_d`` over documents (Cochran 1977, section 6.4). That
spread includes the difference between documents and the noise of the estimate within each.
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
    """A number with its uncertainty.

    Attributes:
        value: the estimate.
        low, high: its 95% confidence interval over documents of the same population; NaN for fewer than two documents.
        monte_carlo_error: standard error from sampling the masked positions, for these documents only; it falls with
            more samples. NaN for one sample.

    Examples:
        >>> print(Estimate(2.0, 1.5, 2.5), "|", Estimate(2.0, 1.5, 2.5).scaled(0.5))
        2 (95% 1.5 to 2.5) | 1 (95% 0.75 to 1.25)
    """

    value: float
    low: float
    high: float
    monte_carlo_error: float = math.nan

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate times a factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.monte_carlo_error * factor)

    def exponential(self) -> Estimate:
        """Return ``exp`` of the estimate and of its interval; the error by the delta method."""
        with np.errstate(over="ignore"):
            value, low, high = (float(np.exp(number)) for number in (self.value, self.low, self.high))
        return Estimate(value, low, high, value * self.monte_carlo_error)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object, with None for NaN and infinity."""
        return {name: number if math.isfinite(number) else None for name, number in asdict(self).items()}

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.4g}"
        return f"{self.value:.4g} (95% {self.low:.4g} to {self.high:.4g})"


def ratio(numerator: NDArray[Any], denominator: NDArray[Any], confidence: float = 0.95) -> Estimate:
    """Return ``sum(numerator) / sum(denominator)`` with its interval.

    Args:
        numerator: float ``[R, D]``: ``R`` independent passes over ``D`` documents, averaged by the estimate.
        denominator: ``[D]``, or ``[R, D]`` if passes differ in it.
        confidence: level of the interval.

    Raises:
        ValueError: the denominator is zero everywhere.
    """
    passes = len(numerator)
    below = np.broadcast_to(denominator, numerator.shape).astype(np.float64)
    over, under = numerator.mean(0), below.mean(0)
    if not under.sum() > 0:
        raise ValueError(
            "The denominator of this ratio is zero: the documents have no tokens, bytes or words of this kind. Give documents that have some."
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
    """Return a quantile of Student's t: exact for 1 and 2 degrees, else Abramowitz and Stegun 26.7.5."""
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
    correction: float = sum(term / v ** (power + 1) for power, term in enumerate(terms))
    return z + correction


def proportion(successes: float | int, cases: int, confidence: float = 0.95) -> Estimate:
    """Return the proportion of successes among independent cases, with Wilson's interval (1927).

    A tie may count as half a success: its variance is then below that of a fair draw, so the interval errs on the wide side. The interval stays inside [0, 1] and is informative at the ends: 0 of 1,000 has an upper limit of 0.4%.

    Raises:
        ValueError: no cases, or more successes than cases.
    """
    if cases < 1 or not 0 <= successes <= cases:
        raise ValueError(
            f"A proportion needs at least one case, and no more successes than cases; got {successes} of {cases}."
        )
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    p, n = successes / cases, cases
    centre, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    low, high = ((centre + side * half) / (1 + z2 / n) for side in (-1, 1))
    return Estimate(p, 0.0 if successes == 0 else low, 1.0 if successes == cases else high)
