"""Flat tokens in memory, with the interface of a token store.

A tensor, array or memory map of integers ``[n_tokens]`` can be used by datasets and training loops in place of a
:class:`unmask.data.store.token_store.TokenStore`. Only the tokens that are read are copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unmask.data.store.token_store import TokenStore
from unmask.data.store.window_sequence import WindowSequence


class TokenArray:
    """One stream of tokens.

    Args:
        tokens: a flat tensor, NumPy array or memory map of integers.
        pad: id that fills an incomplete last window.

    Attributes:
        tokens: the array, ``[n_tokens]``.
        n_tokens: its length.

    Raises:
        ValueError: the tokens are not flat or not integers.

    Examples:
        >>> from unmask.data.store.token_array import TokenArray
        >>> TokenArray([5, 6, 7], pad=1).gather_windows([1], block_size=2).tolist()
        [[7, 1]]
    """

    def __init__(self, tokens: Any, pad: int = 0) -> None:
        self.tokens: NDArray[Any] = (
            tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else np.asanyarray(tokens)
        )
        self.pad = pad
        if self.tokens.ndim != 1 or not np.issubdtype(self.tokens.dtype, np.integer):
            raise ValueError(
                f"Tokens must be a flat array of integers; this array has dtype {self.tokens.dtype} and shape "
                f"{list(self.tokens.shape)}. Pass ids, such as a tensor of int64, and flatten rows with data.flatten()."
            )
        self.n_tokens: int = len(self.tokens)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return tokens ``start..stop-1``, ``[stop - start]``, as a view."""
        return self.tokens[start:stop]

    def windows(self, block_size: int) -> WindowSequence:
        """Return the sequence of consecutive windows of ``block_size`` tokens; the last one may be padded."""
        return WindowSequence(self, block_size)

    def gather_windows(self, indices: Any, block_size: int) -> NDArray[np.int64]:
        """Return windows: row ``i`` starts at token ``indices[i] * block_size``, int64 ``[N, block_size]``."""
        where = np.asarray(indices, dtype=np.int64)[:, None] * block_size + np.arange(block_size)
        rows = np.full(where.shape, self.pad, dtype=np.int64)
        inside = where < self.n_tokens
        rows[inside] = self.tokens[where[inside]]
        return rows


def token_stream(data: Any) -> TokenStore | TokenArray:
    """Return a store or array with ``read(start, stop)`` for any flat tokens."""
    return data if isinstance(data, TokenStore | TokenArray) else TokenArray(data)
