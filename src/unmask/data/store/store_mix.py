"""Several token stores and the order in which samples come from them.

Sample number ``g`` of a run comes from one store, which is a function of ``g`` and the weights alone: integers ``a_1 … a_k``
of sum ``A``. Of the first ``g`` samples the first store has ``floor(g a_1 / A)``; the others share the rest in the same way.
Every run of samples therefore has the stores in the ratio of the weights, up to less than ``k`` samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.data.store.token_store import TokenStore

FINEST = 10**6  # largest sum of the integer weights, with which products of sample numbers fit into 64 bits


def integer_weights(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """Return the smallest integers in the ratio of some positive weights; rounded to millionths if their sum would exceed that.

    Examples:
        >>> from fractions import Fraction
        >>> from unmask.data.store.store_mix import integer_weights
        >>> integer_weights([Fraction("0.7"), Fraction("0.3")]), integer_weights([Fraction(2), Fraction(4)])
        ((7, 3), (1, 2))
    """
    common = math.lcm(*(each.denominator for each in weights))
    whole = [int(each * common) for each in weights]
    divisor = math.gcd(*whole)
    whole = [each // divisor for each in whole]
    if sum(whole) > FINEST:
        whole = [max(1, round(Fraction(each * FINEST, sum(whole)))) for each in whole]
    return tuple(whole)


class Draws(NamedTuple):
    """Which store each sample comes from, and how many earlier samples came from the same one: int64 ``[N]`` each."""

    store: NDArray[np.int64]
    earlier: NDArray[np.int64]


def draws(number: NDArray[np.int64], weights: Sequence[int]) -> Draws:
    """Return the store of samples, by their numbers in the run.

    Args:
        number: int64 ``[N]``.
        weights: positive integers, one for each store.

    Examples:
        >>> import numpy as np
        >>> from unmask.data.store.store_mix import draws
        >>> draws(np.arange(10), [7, 3]).store.tolist()
        [1, 0, 0, 1, 0, 0, 1, 0, 0, 0]
    """
    store = np.full(len(number), len(weights) - 1, dtype=np.int64)
    earlier = np.empty(len(number), dtype=np.int64)
    rest, total = np.asarray(number, dtype=np.int64), sum(weights)
    open_ = np.ones(len(number), dtype=bool)
    for each, weight in enumerate(weights):
        before = rest * weight // total
        mine = open_ & ((rest + 1) * weight // total > before)
        store[mine], earlier[mine] = each, before[mine]
        open_ &= ~mine
        rest, total = rest - before, total - weight
        if not total:
            break
    return Draws(store, earlier)


@dataclass(frozen=True)
class StoreMix:
    """Training stores with the ratio of their rows.

    Attributes:
        stores: stores of one tokenizer.
        weights: positive integers, one for each store.
    """

    stores: tuple[TokenStore, ...]
    weights: tuple[int, ...]
