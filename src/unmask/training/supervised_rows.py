"""Rows of supervised fine-tuning: one document a row, with flags at the tokens that are learnt.

A row is a pure function of its number, so any rank, worker or resumed run reads the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data.row_encoding import answer_window
from unmask.data.store.token_store import TokenStore
from unmask.randomness import Stream, fold, row_keys

Augmentation = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Ids and flags of rows ``[N, L]``, and keys ``[N]`` -> ids and flags of their copies."""


class SupervisedRows(Dataset[dict[str, Any]]):
    """Documents of a supervised store, read a batch at a time as columns for ``SupervisedMLMCollator``.

    The index of a batch is an int64 array ``[N, 3]`` of (epoch, position in the epoch, row).

    Args:
        store: a store of rows with answers.
        block_size: largest number of tokens of a row; a longer one loses text far from its last answer.
        samples: number of samples of the whole run; batches then have a column ``progress`` for the mask-rate warm-up.
        eos_tail: fill a row that ends with an answer up to ``block_size`` with EOS that belongs to the answer (LLaDA,
            2502.09992).
        augment: replaces ids and flags of rows of one length, given keys; None = the rows of the store.
        seed: random seed of ``augment``.
    """

    def __init__(
        self,
        store: TokenStore,
        block_size: int,
        samples: int | None = None,
        eos_tail: bool = False,
        augment: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.store = store
        self.block_size = block_size
        self.samples = samples
        self.eos_tail = eos_tail
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.store)

    def __getitems__(self, index: np.ndarray) -> dict[str, Any]:
        """Return ``input_ids`` and ``loss_mask``, ``N`` arrays of one length each, with the identities of the rows."""
        epoch, position, row = np.asarray(index, dtype=np.int64).T
        ids, learnt = zip(*(self._row(int(number)) for number in row), strict=True)
        if self.augment is not None:
            ids, learnt = self._augmented(ids, learnt, epoch, row)
        columns = {
            "input_ids": list(ids),
            "loss_mask": list(learnt),
            "example_id": row,
            "epoch": epoch,
            "epoch_place": position,
        }
        if self.samples is None:
            return columns
        return {**columns, "progress": (epoch * len(self) + position) / self.samples}

    def _augmented(self, ids: Any, learnt: Any, epoch: np.ndarray, row: np.ndarray) -> tuple[Any, Any]:
        assert self.augment is not None
        if len({len(each) for each in ids}) > 1:
            raise ValueError("data.augment needs rows of one length, and these have several. Leave the key out.")
        keys = fold(row_keys(self.seed, torch.from_numpy(epoch), torch.from_numpy(row)), int(Stream.ORDER))
        changed, flags = self.augment(torch.from_numpy(np.stack(ids)), torch.from_numpy(np.stack(learnt)).long(), keys)
        return changed.numpy(), flags.numpy() != 0

    def _row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        learnt = self.store.learnt(number)
        window = answer_window(learnt, self.block_size)
        ids, learnt = self.store.document(number)[window].astype(np.int64), learnt[window]
        missing = self.block_size - len(ids)
        if self.eos_tail and missing and learnt[-1]:
            ids = np.concatenate([ids, np.full(missing, self.store.manifest["eos"])])
            learnt = np.concatenate([learnt, np.ones(missing, dtype=bool)])
        return ids, learnt
