"""Rows of a fixed length out of one long row of tokens, for models of sequences that all have the same length.

Each reading of a row counts: reading number ``n`` of row ``i`` yields the window of ``(seed, n, i)``. Every pass of a plain loop over a
``DataLoader`` therefore sees new windows, with no call between passes. The counts are in memory shared with loader workers, so
windows depend neither on the number of workers nor on their order, lifetime or batches. Tokens come unmasked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data.store.token_array import token_stream
from unmask.randomness import Stream, fold, row_keys, uniform
from unmask.shared_counts import SharedCounts

_PIECE = 1 << 24  # tokens looked through together
_MOST_SCANNED = 1 << 28


class MaskedTokenDataset(Dataset[Any]):
    """Rows of exactly ``max_seq_len`` tokens, as many as would tile the data.

    A row is a window at a random place, another one at each reading. Every place at which a whole window fits is equally likely, the
    last one too. In ``sequential`` mode row ``i`` is the ``i``-th of the windows laid end to end, at every reading, as evaluation needs.

    Args:
        data: a flat tensor, NumPy array or memory map of token ids, or a ``TokenStore``; or rows ``[N, max_seq_len]``, of which row ``i``
            is the ``i``-th.
        max_seq_len: tokens of a row, ``L``; may be left out for data that are rows already.
        mask_id: the id that will stand for hidden tokens; data that hold it are refused. Up to 2^28 tokens are looked through
            here; of longer data every window is, when it is read.
        seed: of the places.
        sequential: windows end to end.
        identified: rows are ``{"input_ids": [L], "example_id": i, "epoch": n}``, so that the noise of a row, too, is its own
            (``NonAutoregressiveWrapper`` and the collators read them) and new at each reading. In ``sequential`` mode ``epoch`` is that of
            ``set_epoch``, so that evaluation repeats its noise. Otherwise a row is its tokens alone.

    Rows are int64 ``[L]``. With workers, a pass that is left early also counts rows that were read ahead; ``set_epoch`` starts anew.

    Raises:
        ValueError: data that are not integers, are shorter than one window, hold the mask, or are rows of another length.

    Example:
        >>> dataset = MaskedTokenDataset(torch.randint(0, 256, (10_000,)), max_seq_len=128, mask_id=256)
        >>> len(dataset), dataset[0].shape
        (78, torch.Size([128]))
    """

    def __init__(
        self,
        data: Any,
        max_seq_len: int | None = None,
        mask_id: int | None = None,
        *,
        seed: int = 0,
        sequential: bool = False,
        identified: bool = False,
    ) -> None:
        data = np.asarray(data) if isinstance(data, list | tuple) else data
        shape = tuple(getattr(data, "shape", ()))
        self.are_rows = len(shape) == 2
        if max_seq_len is None and not self.are_rows:
            raise ValueError(
                "Flat tokens do not say how long a row is: give max_seq_len, such as MaskedTokenDataset(tokens, 128)."
            )
        if self.are_rows and max_seq_len not in (None, shape[1]):
            raise ValueError(
                f"The data are {shape[0]} rows of {shape[1]} tokens, and max_seq_len={max_seq_len} asks for rows of another length: give "
                f"max_seq_len={shape[1]} for these rows, or data.flatten() for windows anywhere, across the ends of rows."
            )
        self.max_seq_len = shape[1] if max_seq_len is None else max_seq_len
        self.stream = token_stream(data.reshape(-1) if self.are_rows else data)
        self.mask_id = mask_id
        self.seed = seed
        self.sequential = sequential
        self.identified = identified
        if self.max_seq_len < 1 or self.stream.n_tokens < self.max_seq_len:
            raise ValueError(
                f"The data hold {self.stream.n_tokens} tokens and a row is max_seq_len={self.max_seq_len} of them: give at least one row "
                "of data and one token a row."
            )
        self._epoch = SharedCounts()
        self._readings = SharedCounts(len(self) if self._counts() else 0)
        self._scanned = self.stream.n_tokens <= _MOST_SCANNED
        if mask_id is not None and self._scanned:
            for start in range(0, self.stream.n_tokens, _PIECE):
                self._refuse_mask(self.stream.read(start, min(start + _PIECE, self.stream.n_tokens)), start)

    def set_epoch(self, epoch: int) -> None:
        """Start anew from another epoch, between passes; a resumed run so returns to its windows.

        The next reading of each row is then reading number ``epoch``. Loader workers that stay alive follow.
        """
        self._epoch.values[0] = epoch
        self._readings.values[:] = 0

    def __len__(self) -> int:
        return self.stream.n_tokens // self.max_seq_len

    def __getitem__(self, index: int) -> Int[Tensor, " seq"] | dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"There is no row {index}: this set has rows 0 to {len(self) - 1}.")
        reading, start = self.reading(index), self.start(index)
        if self._counts():
            self._readings.values[index] += 1
        tokens = self.stream.read(start, start + self.max_seq_len)
        if self.mask_id is not None and not self._scanned:
            self._refuse_mask(tokens, start)
        row = torch.from_numpy(np.array(tokens, dtype=np.int64))
        return {"input_ids": row, "example_id": index, "epoch": reading} if self.identified else row

    def reading(self, index: int) -> int:
        """The number of the next reading of row ``index``: the epoch, and 1 for each reading since it was set."""
        return int(self._epoch.values[0]) + (int(self._readings.values[index]) if self._counts() else 0)

    def start(self, index: int) -> int:
        """The place of the first token at the next reading of row ``index``."""
        if self.sequential or self.are_rows:
            return index * self.max_seq_len
        key = fold(row_keys(self.seed, self.reading(index), torch.tensor([index])), int(Stream.OFFSET))
        return int(float(uniform(key)[0]) * (self.stream.n_tokens - self.max_seq_len + 1))

    def _counts(self) -> bool:
        return not self.sequential and (self.identified or not self.are_rows)

    def _refuse_mask(self, tokens: Any, start: int) -> None:
        found = np.flatnonzero(tokens == self.mask_id)
        if len(found):
            raise ValueError(
                f"Token {start + int(found[0])} of the data is {self.mask_id}, which is mask_id: a model could not tell it from a hidden "
                "token. Give the mask an id that the data do not use (such as the size of the vocabulary, with a network of one "
                "token more), or map that token to another."
            )
