"""Choose documents by hash so that a fraction of all bytes is held out, in one pass and bounded memory.

The position of a text in ``[0, 2**64)`` is a keyed hash. Texts below a ``cut`` and of at most ``2**largest - 1`` bytes
are held out, which is a deterministic function of the text. The sketch sums bytes by position and by power of two of
the size. Beyond ``MOST`` sums, neighbouring positions are merged, so memory does not grow with the corpus.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

MOST = 2**17  # sums kept; for up to this many documents the cut is exact
TOLERANCE = 0.1  # relative to the smaller side: 4.5% to 5.5% count as near 5%
ANY_SIZE = 63  # bits; larger than the size of any document
_SIZE_BITS = 6


class Choice(NamedTuple):
    """The documents to hold out.

    Attributes:
        cut: positions below it are held out.
        largest: largest size of a held-out document, in bits.
        fraction: fraction of the bytes that is held out.
    """

    cut: int
    largest: int
    fraction: float

    def holds(self, position: int, size: int) -> bool:
        """Return whether a document of this position and size in bytes is held out."""
        return position < self.cut and size.bit_length() <= self.largest

    def error(self, target: float) -> float:
        """Return the distance from a target fraction, relative to the smaller side."""
        return abs(self.fraction - target) / min(target, 1 - target)

    def is_near(self, target: float) -> bool:
        """Return whether the fraction is within ``TOLERANCE`` of a target."""
        return self.error(target) <= TOLERANCE


class ByteSketch:
    """Sums of bytes by position and size of documents.

    Args:
        fraction: fraction of the bytes to hold out.
    """

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction
        self.documents: int = 0
        self.total: int = 0
        self.largest: int = 0
        self._below = self._above = 0  # bytes on either side of the plain cut
        self._plain_cut = int(fraction * 2**64)
        self._shift = 0
        self._sums: dict[int, int] = {}

    def add(self, position: int, size: int) -> None:
        """Count one document; equal texts have the same position and add up."""
        self.documents += 1
        self.total += size
        self.largest = max(self.largest, size)
        if position < self._plain_cut:
            self._below += size
        else:
            self._above += size
        key = (position >> self._shift) << _SIZE_BITS | size.bit_length()
        self._sums[key] = self._sums.get(key, 0) + size
        while len(self._sums) > MOST:
            self._coarsen()

    def include(self, other: ByteSketch) -> None:
        """Add the documents of another sketch; the result is that of one sketch of all documents, in any order."""
        self.documents += other.documents
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self._below += other._below
        self._above += other._above
        while self._shift < other._shift:
            self._coarsen()
        step, sizes = self._shift - other._shift, (1 << _SIZE_BITS) - 1
        for key, size in other._sums.items():
            coarser = key >> (_SIZE_BITS + step) << _SIZE_BITS | key & sizes
            self._sums[coarser] = self._sums.get(coarser, 0) + size
        while len(self._sums) > MOST:
            self._coarsen()

    def as_dict(self) -> dict[str, Any]:
        """Return the sketch as a JSON object."""
        return {**vars(self), "_sums": {str(key): size for key, size in self._sums.items()}}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> ByteSketch:
        """Restore a sketch of :meth:`as_dict`."""
        sketch = cls(saved["fraction"])
        vars(sketch).update(saved, _sums={int(key): size for key, size in saved["_sums"].items()})
        return sketch

    def _coarsen(self) -> None:
        """Round positions more coarsely: the first time enough for some to coincide, then by one bit."""
        step = max(1, 64 - MOST.bit_length() - 2 - self._shift)
        merged: dict[int, int] = {}
        sizes = (1 << _SIZE_BITS) - 1
        for key, total in self._sums.items():
            coarser = key >> (_SIZE_BITS + step) << _SIZE_BITS | key & sizes
            merged[coarser] = merged.get(coarser, 0) + total
        self._sums = merged
        self._shift += step

    def choose(self) -> Choice | None:
        """Return the plain cut if it is near the fraction, otherwise the nearest cut, limiting sizes only if needed.

        The plain cut does not depend on other documents. A limit of sizes is the last resort, as it keeps all large
        documents for training.

        Returns:
            The best choice, near or not; None for a single distinct text, of which nothing can be held out.
        """
        if self._below and self._above:
            plain = Choice(self._plain_cut, ANY_SIZE, self._below / self.total)
            if plain.is_near(self.fraction):
                return plain
        keys = np.array(sorted(self._sums), dtype=object)
        sums = np.array([self._sums[key] for key in keys], dtype=np.int64)
        buckets = np.array([key >> _SIZE_BITS for key in keys], dtype=np.uint64)
        bits = np.array([key & ((1 << _SIZE_BITS) - 1) for key in keys], dtype=np.int64)
        choices = []
        for largest in sorted(set(bits.tolist()), reverse=True):
            small = bits <= largest
            distinct, first = np.unique(buckets[small], return_index=True)
            held = np.cumsum(np.add.reduceat(sums[small], first))
            held = held[: -1 if held[-1] == self.total else None]  # training keeps at least one document
            if not len(held):
                continue
            best = int(np.argmin(np.abs(held - self.fraction * self.total)))
            limit = ANY_SIZE if largest == bits.max() else int(largest)
            choices.append(Choice((int(distinct[best]) + 1) << self._shift, limit, float(held[best] / self.total)))
            if choices[-1].is_near(self.fraction):
                return choices[-1]
        return min(choices, key=lambda choice: choice.error(self.fraction), default=None)
