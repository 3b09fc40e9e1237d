"""N-gram counts of a token stream, sparse and vectorised.

A table counts ``(context, token)`` pairs as sorted int64 keys ``context * V + token``. The entries of a context are
adjacent and located by binary search. Counting sorts the stream once per table, with about 24 bytes per token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ContextTable:
    """Counts of each token in each context.

    Attributes:
        keys: int64 ``[n]``, ``context * vocab_size + token``, ascending.
        counts: int64 ``[n]``.
        vocab_size: ids are smaller than this.
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    vocab_size: int

    @classmethod
    def of(cls, contexts: NDArray[np.int64], tokens: NDArray[np.int64], vocab_size: int) -> ContextTable:
        """Count pairs, given as two arrays ``[n]``."""
        keys, counts = np.unique(contexts * vocab_size + tokens, return_counts=True)
        return cls(keys, counts.astype(np.int64), vocab_size)

    def rows(self, contexts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the entries of contexts ``[n]`` as three arrays: index of the context, token, count."""
        start = np.searchsorted(self.keys, contexts * self.vocab_size)
        length = np.searchsorted(self.keys, (contexts + 1) * self.vocab_size) - start
        row = np.repeat(np.arange(len(contexts)), length)
        entry = np.arange(len(row)) + np.repeat(start - (np.cumsum(length) - length), length)
        return row, self.keys[entry] % self.vocab_size, self.counts[entry]
