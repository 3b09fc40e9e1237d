"""Rows that consist of masks only: the starting point of unconditional generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unmask.contracts import SpecialIds
from unmask.randomness import Stream, fold, row_keys, uniform


class AllMaskDataset(Dataset[dict[str, Any]]):
    """``count`` rows of masks, of one length or of lengths sampled from a reference corpus.

    Row ``i`` is a deterministic function of ``(seed, i)``, so the number of loader workers changes nothing.

    Args:
        special: the tokenizer, or its ``SpecialIds``.
        count: number of rows.
        length: tokens per row. A sequence of lengths, such as ``store.document_tokens``, is sampled uniformly, once per
            row.
        seed: seed of the sampled lengths.

    Rows are ``{"prompt_ids": int64 [length], "example_id": i}``, the input of ``MLMInfillWithExactTargetPredCollator``.

    Raises:
        ValueError: a negative ``count``, no length, or a length below 1.

    Examples:
        >>> from unmask import AllMaskDataset, SpecialIds
        >>> rows = AllMaskDataset(SpecialIds(mask=1, vocab_size=100), count=2, length=3)
        >>> rows[0]["prompt_ids"].tolist()
        [1, 1, 1]
    """

    def __init__(self, special: Any, count: int, length: int | Sequence[int], seed: int = 0) -> None:
        self.mask: int = SpecialIds.of(special).mask
        self.count = count
        self.reference: NDArray[np.int64] = np.atleast_1d(np.asarray(length, dtype=np.int64))
        self.seed = seed
        if count < 0 or self.reference.size == 0 or self.reference.min() < 1:
            raise ValueError(
                f"count={count} and length={self.reference[:8].tolist()} describe no rows of masks: pass a count of at "
                "least 0 and a length of at least 1 token, or a sequence of such lengths."
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(f"There is no row {index}: this dataset has rows 0 to {self.count - 1}.")
        key = fold(row_keys(self.seed, 0, torch.tensor([index])), int(Stream.LENGTH))
        length = int(self.reference[int(float(uniform(key)[0]) * len(self.reference))])
        masks = np.full(length, self.mask, dtype=np.int64)
        return {"prompt_ids": masks, "example_id": index}
