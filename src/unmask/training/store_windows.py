"""The dataset of a loader process. The module does not import Lightning, so that the process starts quickly."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from unmask.data.store.token_array import TokenArray
from unmask.data.store.token_store import TokenStore


def one_thread(_: int) -> None:
    """Limit a loader process to one thread, because several run at once (``worker_init_fn``)."""
    torch.set_num_threads(1)


class WindowDataset(Dataset[dict[str, np.ndarray]]):
    """Windows of ``block_size`` tokens of a store, read a batch at a time as columns.

    The index of a batch is an int64 array ``[N, 3]`` of (epoch, position in the epoch, window).

    Args:
        store: the tokens.
        block_size: tokens of a window.
        samples: number of samples of the whole run; batches then have a column ``progress`` for the mask-rate warm-up.
    """

    def __init__(self, store: TokenStore | TokenArray, block_size: int, samples: int | None = None) -> None:
        self.store = store
        self.block_size = block_size
        self.samples = samples
        self.kind: Literal["stream"] = "stream"

    def __len__(self) -> int:
        return len(self.store.windows(self.block_size))

    def __getitems__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``input_ids [N, block_size]`` with the row identities that key the random masks."""
        epoch, position, window = np.asarray(index, dtype=np.int64).T
        rows = self.store.gather_windows(window, self.block_size)
        columns = {"input_ids": rows, "example_id": window, "epoch": epoch, "epoch_place": position}
        if self.samples is None:
            return columns
        return {**columns, "progress": (epoch * len(self) + position) / self.samples}
