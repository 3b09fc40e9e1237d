"""Fixed-length windows of one long sequence of tokens, for models of sequences of equal length.

Accesses to a row are counted: access ``n`` to row ``i`` yields the window of ``(seed, n, i)``. Every pass of a plain
loop over a ``DataLoader`` therefore yields new windows, without a call between passes. The counts are in memory shared
with loader workers, so windows do not depend on the number, order or lifetime of workers, nor on the batches. Tokens
are not masked here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data.store.token_array import TokenArray, token_stream
from unmask.data.store.token_store import TokenStore
from unmask.randomness import Stream, fold, row_keys, uniform
from unmask.shared_counts import SharedCounts

_CHUNK = 1 << 24  # tokens compared with the mask at a time
_MOST_SCANNED = 1 << 28


class MaskedTokenDataset(Dataset[Any]):
    """Rows of exactly ``max_seq_len`` tokens, as many as non-overlapping windows of the data.

    A row is a window at a random offset, a new one at each access. All offsets of complete windows are equally likely.
    In ``sequential`` mode, row ``i`` is always the ``i``-th of the consecutive windows, as evaluation requires.

    Args:
        data: a flat tensor, NumPy array or memory map of token ids, or a ``TokenStore``. Rows ``[N, max_seq_len]`` are
            used as they are.
        max_seq_len: tokens per row, ``L``; optional if the data are rows.
        mask_id: id of the mask; data that contain it are refused. Up to 2^28 tokens are checked here, of longer data
            each window at its access.

    Other Parameters:
        seed: seed of the offsets.
        sequential: consecutive windows.
        identified: rows are ``{"input_ids": [L], "example_id": i, "epoch": n}``, from which
            ``NonAutoregressiveWrapper`` and the collators derive noise that is new at each access. In ``sequential``
            mode, ``epoch`` is that of ``set_epoch``, so that evaluation repeats its noise. Otherwise a row consists of
            its tokens.

    Rows are int64 ``[L]``. With workers, a pass that is left early also counts prefetched rows; ``set_epoch`` resets
    the counts.

    Raises:
        ValueError: the data are not integers, are shorter than one window, contain the mask, or are rows of another
            length.

    Examples:
        >>> import torch
        >>> from unmask import MaskedTokenDataset
        >>> dataset = MaskedTokenDataset(torch.arange(1000), max_seq_len=128, mask_id=1000, sequential=True)
        >>> len(dataset), dataset[1][:3].tolist()
        (7, [128, 129, 130])
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
        self.are_rows: bool = len(shape) == 2
        if max_seq_len is None and not self.are_rows:
            raise ValueError(
                "Flat tokens do not determine the length of a row: pass max_seq_len, such as "
                "MaskedTokenDataset(tokens, 128)."
            )
        if self.are_rows and max_seq_len not in (None, shape[1]):
            raise ValueError(
                f"The data are {shape[0]} rows of {shape[1]} tokens, but max_seq_len={max_seq_len}. Pass "
                f"max_seq_len={shape[1]} for these rows, or data.flatten() for windows across the ends of rows."
            )
        self.max_seq_len: int = shape[1] if max_seq_len is None else max_seq_len
        self.stream: TokenStore | TokenArray = token_stream(data.reshape(-1) if self.are_rows else data)
        self.mask_id = mask_id
        self.seed = seed
        self.sequential = sequential
        self.identified = identified
        if self.max_seq_len < 1 or self.stream.n_tokens < self.max_seq_len:
            raise ValueError(
                f"The data hold {self.stream.n_tokens} tokens and a row is max_seq_len={self.max_seq_len} of them: "
                "pass data for at least one row, and at least one token per row."
            )
        self._epoch = SharedCounts()
        self._accesses = SharedCounts(len(self) if self._counts_accesses() else 0)
        self._scanned = self.stream.n_tokens <= _MOST_SCANNED
        if mask_id is not None and self._scanned:
            for start in range(0, self.stream.n_tokens, _CHUNK):
                self._refuse_mask(self.stream.read(start, min(start + _CHUNK, self.stream.n_tokens)), start)

    def set_epoch(self, epoch: int) -> None:
        """Restart the counts at an epoch, between passes; a resumed run returns to its windows this way.

        The next access to each row is then access number ``epoch``, in loader workers that stay alive too.

        Args:
            epoch: number of the pass, from 0.
        """
        self._epoch.values[0] = epoch
        self._accesses.values[:] = 0

    def __len__(self) -> int:
        return self.stream.n_tokens // self.max_seq_len

    def __getitem__(self, index: int) -> Int[Tensor, " seq"] | dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"There is no row {index}: this dataset has rows 0 to {len(self) - 1}.")
        epoch, start = self.reading(index), self.start(index)
        if self._counts_accesses():
            self._accesses.values[index] += 1
        tokens = self.stream.read(start, start + self.max_seq_len)
        if self.mask_id is not None and not self._scanned:
            self._refuse_mask(tokens, start)
        row = torch.from_numpy(np.array(tokens, dtype=np.int64))
        return {"input_ids": row, "example_id": index, "epoch": epoch} if self.identified else row

    def reading(self, index: int) -> int:
        """Return the number of the next access to row ``index``: the epoch plus the accesses since it was set."""
        return int(self._epoch.values[0]) + (int(self._accesses.values[index]) if self._counts_accesses() else 0)

    def start(self, index: int) -> int:
        """Return the index of the first token at the next access to row ``index``."""
        if self.sequential or self.are_rows:
            return index * self.max_seq_len
        key = fold(row_keys(self.seed, self.reading(index), torch.tensor([index])), int(Stream.OFFSET))
        return int(float(uniform(key)[0]) * (self.stream.n_tokens - self.max_seq_len + 1))

    def _counts_accesses(self) -> bool:
        return not self.sequential and (self.identified or not self.are_rows)

    def _refuse_mask(self, tokens: Any, start: int) -> None:
        masks = np.flatnonzero(tokens == self.mask_id)
        if len(masks):
            raise ValueError(
                f"Token {start + int(masks[0])} of the data is {self.mask_id}, which is mask_id: it could not be "
                "distinguished from a masked token. Use an id that is not in the data (such as the vocabulary size, "
                "with a model of one token more), or map that token to another."
            )
