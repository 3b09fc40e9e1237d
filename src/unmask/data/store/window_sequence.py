"""Consecutive windows of a stream of tokens, as a sequence of Python: ``len``, index, slice, iterate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024  # rows read together by an iteration


class TokenStream(Protocol):
    """Tokens that are read in windows: a token store, or an array."""

    n_tokens: int

    def gather_windows(self, indices: Any, block_size: int) -> NDArray[np.int64]:
        """Return windows ``[N, block_size]``: row ``i`` starts at token ``indices[i] * block_size``."""
        ...


class WindowSequence(Sequence[Any]):
    """The windows of ``block_size`` tokens of a stream; the last one may be padded. Nothing is read before it is indexed.

    An index gives one window, int64 ``[block_size]``; a slice gives rows, int64 ``[N, block_size]``.

    Args:
        stream: the tokens.
        block_size: tokens of a window.

    Raises:
        ValueError: ``block_size`` below 1.

    Examples:
        >>> from unmask.data.store.token_array import TokenArray
        >>> windows = TokenArray([5, 6, 7, 8, 9], pad=1).windows(2)
        >>> len(windows), windows[-1].tolist(), windows[:2].tolist()
        (3, [9, 1], [[5, 6], [7, 8]])
    """

    def __init__(self, stream: TokenStream, block_size: int) -> None:
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; a window needs at least one token.")
        self.stream = stream
        self.block_size = block_size

    def __len__(self) -> int:
        return -(-self.stream.n_tokens // self.block_size)

    def __getitem__(self, index: Any) -> NDArray[np.int64]:  # type: ignore[override]  # a slice is one array of rows
        if isinstance(index, slice):
            return self.stream.gather_windows(np.arange(*index.indices(len(self))), self.block_size)
        row: NDArray[np.int64] = self.stream.gather_windows([_counted(index, len(self))], self.block_size)[0]
        return row

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self), _ROWS):
            yield from self[start : start + _ROWS]

    def __repr__(self) -> str:
        return f"WindowSequence({len(self):,} windows of {self.block_size} tokens)"


def _counted(index: int, count: int) -> int:
    """Return an index from 0; a negative one counts from the end.

    Raises:
        IndexError: it is out of range.
    """
    if not -count <= index < count:
        raise IndexError(f"There is no window {index}: the windows are 0 to {count - 1}.")
    return index + count if index < 0 else index
