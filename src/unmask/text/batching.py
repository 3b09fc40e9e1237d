"""Rows of texts as batches of the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from unmask.collate.layout import pad
from unmask.contracts import MLMPredictionDict
from unmask.decode.predictor import MLMPredictor


def in_batches(count: int, size: int) -> Iterator[range]:
    """Row numbers, ``size`` at a time.

    Raises:
        ValueError: no rows to a batch.
    """
    if size < 1:
        raise ValueError(f"--batch-size {size} decodes nothing: give 1 or more.")
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def left_padded(rows: list[list[int]], pad_id: int, numbers: Sequence[int] | None = None) -> dict[str, Any]:
    """Prompts of mixed lengths as one batch, padded on the left; their noise is keyed by ``numbers``, or by their place."""
    ids, real = pad([np.asarray(row, dtype=np.int64) for row in rows], max(map(len, rows)), pad_id, left=True)
    return {
        "input_ids": ids,
        "attention_mask": real,
        "example_id": torch.arange(len(rows)) if numbers is None else torch.tensor(list(numbers)),
    }


def plain_predict(predictor: MLMPredictor, batch: dict[str, Any], labels: list[str]) -> MLMPredictionDict:
    """Decode a batch on the model's device; labels are for those who draw it."""
    device = next(predictor.model.parameters()).device
    return predictor.predict({name: part.to(device) for name, part in batch.items()})
