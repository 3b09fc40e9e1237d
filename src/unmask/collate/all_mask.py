"""Rows of nothing but masks: what a model fills when it writes from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from unmask.contracts import SpecialIds
from unmask.randomness import Stream, fold, row_keys, uniform


class AllMaskDataset(Dataset[dict[str, Any]]):
    """``count`` rows of masks, all of one length or of lengths drawn from a reference.

    Row ``i`` is a pure function of ``(seed, i)``: any number of loader workers, in any order, see the same rows once.

    Args:
        special: the tokenizer's special ids (or the tokenizer).
        count: number of rows.
        length: tokens of every row, or the lengths of a reference corpus, such as ``store.document_tokens``, from which each
            row draws its own.
        seed: of the lengths.

    Rows are ``{"prompt_ids": [mask] * n, "example_id": i}``, as ``MLMInfillWithExactTargetPredCollator`` reads them.
    """

    def __init__(self, special: Any, count: int, length: int | Sequence[int], seed: int = 0) -> None:
        self.mask = SpecialIds.of(special).mask
        self.count = count
        self.reference = np.atleast_1d(np.asarray(length, dtype=np.int64))
        self.seed = seed
        if count < 0 or self.reference.size == 0 or self.reference.min() < 1:
            raise ValueError(
                f"{count} rows of masks were asked for with lengths {self.reference[:8].tolist()}: give a count of rows and a "
                "length of at least 1 token, or the lengths of some reference texts."
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(f"There is no row {index}: this set has rows 0 to {self.count - 1}.")
        key = fold(row_keys(self.seed, 0, torch.tensor([index])), int(Stream.LENGTH))
        length = int(self.reference[int(float(uniform(key)[0]) * len(self.reference))])
        masks = np.full(length, self.mask, dtype=np.int64)
        return {"prompt_ids": masks, "example_id": index}
