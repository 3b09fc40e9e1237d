"""Segment ids and positions of packed rows, computed from the ends of their documents.

``unmask.ops.segments`` computes the same from every token on any device. Working from the few document ends in NumPy takes a
third of the time, which matters because collation runs concurrently with the training step.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Int
from numpy import ndarray


def documents(
    last: Int[ndarray, " documents"], rows: int, width: int
) -> tuple[Int[ndarray, "rows width"], Int[ndarray, "rows width"]]:
    """Compute segment ids and positions from the last tokens of documents.

    Args:
        last: indices of last tokens in the flattened batch, in any order. The token after each starts the next document;
            the end of a row always ends a document.
        rows, width: shape of the batch.

    Returns:
        Segment ids (0, 1, 2, … within a row) and positions (from 0 in every segment), int64 ``[B, L]`` each.
    """
    index = _index(rows * width)
    stops = np.concatenate([last, index[width - 1 :: width]])
    stops.sort()  # a document that ends with its row is followed by an empty one, which still belongs to that row
    row = stops // width
    number = _index(len(stops)) - row.searchsorted(row)
    stops += 1
    starts = np.empty_like(stops)
    starts[:1], starts[1:] = 0, stops[:-1]
    lengths = stops - starts
    positions = starts.repeat(lengths)
    np.subtract(index, positions, out=positions)
    return number.repeat(lengths).reshape(rows, width), positions.reshape(rows, width)


@lru_cache(maxsize=64)
def _index(count: int) -> ndarray:
    """Return ``0..count-1``, cached and therefore read only."""
    return np.arange(count)
