"""Means over seeds and documents, and paired differences of them, with intervals and p-values.

Seeds and documents are crossed: every seed is measured on every document. With ``z`` the deviation of a cell from the mean,

    variance of the mean = spread of seed means / S + spread of document means / D - spread of what remains / (S D)

(two-way random effects, Searle et al. 1992, section 4.3; degrees of freedom by Satterthwaite 1946). The ratio to the bytes or tokens is linearised
as in ``unmask.evaluate.estimate``. One seed gives that interval over documents alone.

Shapes: numerators are ``[S, D]``, denominators ``[D]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unmask.evaluate.estimate import Estimate, student_quantile

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CrossedMean:
    """A mean over seeds and documents.

    Attributes:
        value: the mean.
        variance: variance of the mean over seeds and documents; NaN for a single cell.
        degrees: degrees of freedom of the variance.
    """

    value: float
    variance: float
    degrees: int

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95% interval."""
        half = math.nan
        if not math.isnan(self.variance):
            half = student_quantile(0.975, self.degrees) * math.sqrt(self.variance)
        return Estimate(self.value, self.value - half, self.value + half)

    @property
    def p_value(self) -> float:
        """Two-sided p-value of Student's t-test that the mean is zero; NaN without a variance."""
        if math.isnan(self.variance):
            return math.nan
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        return two_sided_p(self.value / math.sqrt(self.variance), self.degrees)


def crossed_mean(numerator: Array, denominator: NDArray[np.int64]) -> CrossedMean:
    """Return ``sum(numerator) / sum(denominator)``, averaged over seeds, with its variance.

    Args:
        numerator: ``[S, D]``, such as bits of each document.
        denominator: ``[D]``, such as bytes of each document; documents without any are left out.

    Examples:
        >>> mean = crossed_mean(np.array([[2.0, 4.0, 3.0]]), np.array([1, 1, 1]))
        >>> mean.value, round(mean.variance, 6), mean.degrees
        (3.0, 0.333333, 2)
    """
    cells, value = _linearised(numerator, denominator)
    return CrossedMean(value, *_combined(*_components(cells)))


def crossed_difference(one: Array, other: Array, denominator: NDArray[np.int64], same_seeds: bool) -> CrossedMean:
    """Return the mean of ``one - other`` on the same documents, with its variance.

    Args:
        one: ``[S, D]``.
        other: ``[T, D]``.
        denominator: ``[D]``.
        same_seeds: row ``s`` of both has one seed, so that seeds are paired too; else the spreads of their seeds add up.
    """
    if same_seeds:
        return crossed_mean(one - other, denominator)
    cells, value = _linearised((one.mean(0) - other.mean(0))[None], denominator)
    parts, _ = _components(cells)
    for each in (one, other):
        if len(each) > 1:
            seeds, _ = _components(_linearised(each, denominator)[0])
            parts.append(seeds[0])
    return CrossedMean(value, *_combined(parts, 0.0))


def _linearised(numerator: Array, denominator: NDArray[np.int64]) -> tuple[Array, float]:
    """Return cells ``[S, D]`` whose mean is zero and spreads like the ratio, and the ratio."""
    counted = denominator > 0
    under = denominator[counted].astype(np.float64)
    over = numerator[:, counted]
    value = over.mean(0).sum() / under.sum()
    return (over - value * under) * (len(under) / under.sum()), float(value)


Part = tuple[float, int]  # variance, degrees of freedom


def _components(cells: Array) -> tuple[list[Part], float]:
    """Return the variance of the mean from seeds (if several) and from documents (if several), and what both count twice."""
    seeds, documents = cells.shape
    parts: list[Part] = []
    if seeds > 1:
        parts.append((float(cells.mean(1).var(ddof=1)) / seeds, seeds - 1))
    if documents > 1:
        parts.append((float(cells.mean(0).var(ddof=1)) / documents, documents - 1))
    twice = 0.0
    if seeds > 1 and documents > 1:
        rest = cells - cells.mean(1, keepdims=True) - cells.mean(0) + cells.mean()
        twice = float((rest**2).sum()) / ((seeds - 1) * (documents - 1)) / (seeds * documents)
    return parts, twice


def _combined(parts: Sequence[Part], twice: float) -> tuple[float, int]:
    if not parts:
        return math.nan, 1
    variance = max(sum(each for each, _ in parts) - twice, *(each for each, _ in parts), 0.0)
    below = sum(each**2 / degrees for each, degrees in parts)
    if below == 0:
        return variance, min(degrees for _, degrees in parts)
    return variance, max(int(variance**2 / below), min(degrees for _, degrees in parts))


def two_sided_p(t: float, degrees: int) -> float:
    """Return the two-sided p-value of Student's t, by quadrature of its density.

    Examples:
        >>> round(two_sided_p(1.0, 1), 6)  # Cauchy: a half
        0.5
    """
    # t = sqrt(v) tan(a): the density is cos(a)^(v - 1), which falls by 1 / sqrt(v)
    start = math.atan(abs(t) / math.sqrt(degrees))
    stop = min(math.pi / 2, start + 40 / math.sqrt(degrees))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    angles = start + (stop - start) * (nodes + 1) / 2
    log_norm = 0.5 * math.log(math.pi) + math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)
    inside = np.exp((degrees - 1) * np.log(np.cos(angles)) - log_norm) * weights
    return min(1.0, float(inside.sum()) * (stop - start))
