"""Flat tokens that are already at hand, with the views of a token store.

A tensor, an array or a memory map of integers ``[n_tokens]`` becomes something that datasets and training loops read as they read
a :class:`unmask.data.store.token_store.TokenStore`. Nothing is copied but what is read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unmask.data.store.token_store import TokenStore


class TokenArray:
    """One stream of tokens.

    Args:
        tokens: a flat tensor, NumPy array or memory map of integers.
        pad: what fills the last window where the stream does not.

    Attributes:
        tokens: the array itself, ``[n_tokens]``.
        n_tokens: its length.

    Raises:
        ValueError: not flat, or not integers.
    """

    def __init__(self, tokens: Any, pad: int = 0) -> None:
        self.tokens: NDArray[Any] = (
            tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else np.asanyarray(tokens)
        )
        self.pad = pad
        if self.tokens.ndim != 1 or not np.issubdtype(self.tokens.dtype, np.integer):
            raise ValueError(
                f"Tokens are a flat row of integers, and this is an array of {self.tokens.dtype} shaped {list(self.tokens.shape)}. "
                "Give ids, such as a tensor of int64, and flatten rows with data.flatten()."
            )
        self.n_tokens = len(self.tokens)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Tokens ``start..stop-1``, ``[stop - start]``, a view."""
        return self.tokens[start:stop]

    def windows(self, block_size: int) -> int:
        """How many windows of ``block_size`` tokens tile the stream, the last one possibly padded."""
        return -(-self.n_tokens // block_size)

    def gather_windows(self, indices: Any, block_size: int) -> NDArray[np.int64]:
        """Windows of the stream: row ``i`` is tokens ``indices[i] * block_size`` and on, int64 ``[N, block_size]``."""
        where = np.asarray(indices, dtype=np.int64)[:, None] * block_size + np.arange(block_size)
        rows = np.full(where.shape, self.pad, dtype=np.int64)
        inside = where < self.n_tokens
        rows[inside] = self.tokens[where[inside]]
        return rows


def token_stream(data: Any) -> TokenStore | TokenArray:
    """Anything that holds a flat row of tokens, to be read by ``read(start, stop)``."""
    return data if isinstance(data, TokenStore | TokenArray) else TokenArray(data)
