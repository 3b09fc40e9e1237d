"""Batches of texts for the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from unmask.collate.layout import pad
from unmask.contracts import MLMPredictionDict
from unmask.decode.predictor import MLMPredictor
from unmask.devices import device_of


def in_batches(count: int, size: int, first: int | None = None) -> Iterator[range]:
    """Return ranges of row numbers, of ``size`` rows each.

    Args:
        count: number of rows.
        size: largest number of rows of a range.
        first: rows of the first range; each further range is twice as large. None = ``size``.

    Raises:
        ValueError: ``size`` below 1.
    """
    if size < 1:
        raise ValueError(f"--batch-size {size} is too small: choose 1 or more.")

    def ranges() -> Iterator[range]:
        start, rows = 0, size if first is None else min(first, size)
        while start < count:
            yield range(start, min(start + rows, count))
            start, rows = start + rows, min(2 * rows, size)

    return ranges()


def left_padded(rows: list[list[int]], pad_id: int, numbers: Sequence[int] | None = None) -> dict[str, Any]:
    """Return prompts of mixed lengths as one batch with padding on the left.

    Args:
        rows: ids of each prompt.
        pad_id: id of PAD.
        numbers: the identity of each row, which keys its random numbers; None = its index.

    Returns:
        ``input_ids`` int64 ``[B, L]``, ``attention_mask`` bool ``[B, L]``, ``example_id`` int64 ``[B]``.
    """
    ids, real = pad([np.asarray(row, dtype=np.int64) for row in rows], max(map(len, rows)), pad_id, left=True)
    return {
        "input_ids": ids,
        "attention_mask": real,
        "example_id": torch.arange(len(rows)) if numbers is None else torch.tensor(list(numbers)),
    }


def plain_predict(predictor: MLMPredictor, batch: dict[str, Any], labels: list[str]) -> MLMPredictionDict:
    """Decode a batch on the device of the model. ``labels`` are for functions that draw the decode."""
    device = device_of(predictor.model)
    return predictor.predict({name: part.to(device) for name, part in batch.items()})
