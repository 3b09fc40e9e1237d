"""Windows of a fixed length out of one long row of tokens, for models of sequences that all have the same length.

The window of a row is a pure function of ``(seed, epoch, index)``: the same whatever the number of loader workers, the order in
which they work and the batches they make. Tokens come as they are; whoever trains hides them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data.token_array import token_stream
from unmask.randomness import Stream, fold, row_keys, uniform

_PIECE = 1 << 24  # tokens looked through together
_MOST_SCANNED = 1 << 28


class MaskedTokenDataset(Dataset[Any]):
    """Rows of exactly ``max_seq_len`` tokens, as many as would tile the data.

    Row ``i`` of an epoch is a window at a random place; every place at which a whole window fits is equally likely, the last one
    too. In ``sequential`` mode it is the ``i``-th of the windows laid end to end, the same in every epoch, as evaluation needs.

    Args:
        data: a flat tensor, NumPy array or memory map of token ids, or a ``TokenStore``.
        max_seq_len: tokens of a row, ``L``.
        mask_id: the id that will stand for hidden tokens; data that hold it are refused. Up to 2^28 tokens are looked through
            here; of longer data every window is, when it is read.
        seed: of the places.
        sequential: windows end to end.
        identified: rows are ``{"input_ids": [L], "example_id": i, "epoch": e}``, so that the noise of a row, too, is its own
            (``NonAutoregressiveWrapper`` and the collators read them). Otherwise a row is its tokens alone.

    Rows are int64 ``[L]``.

    Raises:
        ValueError: data that are not flat integers, are shorter than one window, or hold the mask.

    Example:
        >>> dataset = MaskedTokenDataset(torch.randint(0, 256, (10_000,)), max_seq_len=128, mask_id=256)
        >>> len(dataset), dataset[0].shape
        (78, torch.Size([128]))
    """

    def __init__(
        self,
        data: Any,
        max_seq_len: int,
        mask_id: int | None = None,
        *,
        seed: int = 0,
        sequential: bool = False,
        identified: bool = False,
    ) -> None:
        self.stream = token_stream(data)
        self.max_seq_len = max_seq_len
        self.mask_id = mask_id
        self.seed = seed
        self.sequential = sequential
        self.identified = identified
        # In shared memory, so that loader workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if max_seq_len < 1 or self.stream.n_tokens < max_seq_len:
            raise ValueError(
                f"The data hold {self.stream.n_tokens} tokens and a row is max_seq_len={max_seq_len} of them: give at least one row "
                "of data and one token a row."
            )
        self._scanned = self.stream.n_tokens <= _MOST_SCANNED
        if mask_id is not None and self._scanned:
            for start in range(0, self.stream.n_tokens, _PIECE):
                self._refuse_mask(self.stream.read(start, min(start + _PIECE, self.stream.n_tokens)), start)

    def set_epoch(self, epoch: int) -> None:
        """Move on to another epoch: other windows. Loader workers that stay alive between epochs hear of it."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self.stream.n_tokens // self.max_seq_len

    def __getitem__(self, index: int) -> Int[Tensor, " seq"] | dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"There is no row {index}: this set has rows 0 to {len(self) - 1}.")
        start = self.start(index)
        tokens = self.stream.read(start, start + self.max_seq_len)
        if self.mask_id is not None and not self._scanned:
            self._refuse_mask(tokens, start)
        row = torch.from_numpy(np.array(tokens, dtype=np.int64))
        return {"input_ids": row, "example_id": index, "epoch": int(self._epoch)} if self.identified else row

    def start(self, index: int) -> int:
        """The place of the first token of row ``index`` in this epoch."""
        if self.sequential:
            return index * self.max_seq_len
        key = fold(row_keys(self.seed, int(self._epoch), torch.tensor([index])), int(Stream.OFFSET))
        return int(float(uniform(key)[0]) * (self.stream.n_tokens - self.max_seq_len + 1))

    def _refuse_mask(self, tokens: Any, start: int) -> None:
        found = np.flatnonzero(tokens == self.mask_id)
        if len(found):
            raise ValueError(
                f"Token {start + int(found[0])} of the data is {self.mask_id}, which is mask_id: a model could not tell it from a hidden "
                "token. Give the mask an id that the data do not use (such as the size of the vocabulary, with a network of one "
                "token more), or map that token to another."
            )
