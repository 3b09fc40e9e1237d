"""Rows of whole documents: several packed into a row, or one a row.

A document is cut only if it is longer than a row. The assignment of documents to rows is computed once from their lengths, so a row is a pure function of its
number, and any rank, worker or resumed run reads the same rows.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unmask.collate.packing import best_fit
from unmask.data.store.token_store import TokenStore
from unmask.randomness import Stream, fold, row_keys, uniform

Rows = Literal["packed", "document", "stream"]


class DocumentRows(Dataset[dict[str, np.ndarray]]):
    """Rows of ``block_size`` positions that hold whole documents, read a batch at a time as columns.

    The index of a batch is an int64 array ``[N, 3]`` of (epoch, position in the epoch, row).

    Args:
        store: the tokens.
        block_size: positions of a row; a longer document is cut into pieces of this length.
        kind: ``packed`` puts several documents into a row, by best fit; ``document`` puts one (or a piece) into each.
        samples: number of samples of the whole run; batches then have a column ``progress``.
        weights: ``[documents]``, how often each document is drawn, for one document a row; None = once an epoch. Row ``r``
            of an epoch is then a draw from the ``r``-th of equal parts of the weights' cumulative sum.

    Attributes:
        kind: as given.
        efficiency: fraction of all positions that hold a token.
        cut: number of documents longer than a row.
    """

    def __init__(
        self,
        store: TokenStore,
        block_size: int,
        kind: Literal["packed", "document"] = "packed",
        samples: int | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.store = store
        self.block_size = block_size
        self.samples = samples
        self.kind: Rows = kind
        lengths = np.asarray(store.document_tokens, dtype=np.int64)
        pieces = -(-lengths // block_size)  # per document
        document = np.repeat(np.arange(len(lengths)), pieces)
        within = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = np.cumsum(lengths) - lengths
        self._piece_start: NDArray[np.int64] = starts[document] + within * block_size
        self._piece_length: NDArray[np.int64] = np.minimum(block_size, lengths[document] - within * block_size)
        self.cut: int = int((pieces > 1).sum())
        if kind == "packed":
            rows = list(best_fit(self._piece_length.tolist(), block_size))
            self._order: NDArray[np.int64] = np.array([piece for row in rows for piece in row], dtype=np.int64)
            self._row_ends: NDArray[np.int64] = np.cumsum([len(row) for row in rows])
        else:
            self._order = np.arange(len(document))
            self._row_ends = np.arange(1, len(document) + 1)
        self._cumulative: NDArray[np.float64] | None = None
        if weights is not None:
            share = np.asarray(weights, dtype=np.float64)[document]
            self._cumulative = np.cumsum(share) / share.sum()
        self.efficiency: float = float(lengths.sum() / (len(self) * block_size))

    def __len__(self) -> int:
        return len(self._row_ends)

    def __getitems__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``input_ids`` and ``segment_ids``, ``[N, block_size]``, with the row identities that key the random masks."""
        epoch, position, row = np.asarray(index, dtype=np.int64).T
        ids = np.full((len(row), self.block_size), self.store.manifest["pad"], dtype=np.int64)
        segments = np.zeros_like(ids)
        for line, number in enumerate(row if self._cumulative is None else self._drawn(epoch, row)):
            at = 0
            first = self._row_ends[number - 1] if number else 0
            for segment, piece in enumerate(self._order[first : self._row_ends[number]]):
                start, length = int(self._piece_start[piece]), int(self._piece_length[piece])
                ids[line, at : at + length] = self.store.read(start, start + length)
                segments[line, at : at + length] = segment
                at += length
            segments[line, at:] = self._row_ends[number] - first
        columns = {
            "input_ids": ids,
            "segment_ids": segments,
            "example_id": row,
            "epoch": epoch,
            "epoch_place": position,
        }
        if self.samples is None:
            return columns
        return {**columns, "progress": (epoch * len(self) + position) / self.samples}

    def _drawn(self, epoch: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row that each draw of an epoch reads: one per equal part of the cumulative weights, at a keyed place."""
        assert self._cumulative is not None
        keys = row_keys(0, torch.from_numpy(epoch), torch.from_numpy(row))
        place = (row + uniform(fold(keys, int(Stream.ORDER))).numpy()) / len(self)
        found: NDArray[np.int64] = np.minimum(np.searchsorted(self._cumulative, place, side="right"), len(self) - 1)
        return found


def usual_rows(store: TokenStore, block_size: int) -> Rows:
    """Choose the kind of rows for a store: packed if the median document fits at least twice into a row, else a stream."""
    return "packed" if 2 * float(np.median(store.document_tokens)) <= block_size else "stream"
