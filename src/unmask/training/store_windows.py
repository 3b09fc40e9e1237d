"""What a loader process works on. It imports no Lightning, so that a process is started quickly."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from unmask.data.store.token_array import TokenArray
from unmask.data.store.token_store import TokenStore


def one_thread(_: int) -> None:
    """Let a loader process, one of several, compute on one thread."""
    torch.set_num_threads(1)


class WindowDataset(Dataset):
    """Windows of ``block_size`` tokens of a store, fetched a batch at a time as columns.

    A batch of draws is an int64 array ``[N, 3]`` of (epoch, place in the epoch, window).

    Args:
        store: the tokens.
        block_size: tokens of a window.
        draws: of the whole run; each row then says how far training is, which mask-rate curricula read.
    """

    def __init__(self, store: TokenStore | TokenArray, block_size: int, draws: int | None = None) -> None:
        self.store = store
        self.block_size = block_size
        self.draws = draws

    def __len__(self) -> int:
        return self.store.windows(self.block_size)

    def __getitems__(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """``input_ids [N, block_size]`` with the identity of each row for keyed noise."""
        epoch, place, window = np.asarray(draws, dtype=np.int64).T
        rows = self.store.gather_windows(window, self.block_size)
        columns = {"input_ids": rows, "example_id": window, "epoch": epoch, "epoch_place": place}
        return columns if self.draws is None else {**columns, "progress": (epoch * len(self) + place) / self.draws}
