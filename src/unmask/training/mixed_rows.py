"""Rows of several stores, numbered through: row ``r`` of store ``s`` is row ``first[s] + r`` of the mixture.

A pass over the mixture has as many samples as all stores have rows. Within it, a store with a large weight may begin several
passes of its own and another end none; each store's rows come once in every pass over that store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unmask.training.document_rows import DocumentRows, Rows
from unmask.training.store_windows import WindowDataset
from unmask.training.supervised_rows import SupervisedRows

PlainRows = WindowDataset | DocumentRows | SupervisedRows


class MixedRows(Dataset[dict[str, Any]]):
    """Rows of several datasets, read a batch at a time as columns.

    The index of a batch is an int64 array ``[N, 4]`` of (pass over the mixture, position in it, row of the mixture, pass over the
    row's own store). The column ``example_id`` differs for the same row in two passes over its store, because both may be in one
    pass over the mixture: it is the row, plus the number of all rows for each earlier pass.

    Args:
        members: datasets of rows of one kind.
        weights: positive integers: the ratio of the samples.
        samples: number of samples of the whole run; batches then have a column ``progress``.
    """

    def __init__(self, members: Sequence[PlainRows], weights: Sequence[int], samples: int | None = None) -> None:
        self.members = tuple(members)
        self.weights = tuple(weights)
        self.samples = samples
        self.sizes: tuple[int, ...] = tuple(len(member) for member in members)
        self._ends: NDArray[np.int64] = np.cumsum(self.sizes)
        self.kind: Rows | None = getattr(members[0], "kind", None)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitems__(self, index: np.ndarray) -> dict[str, Any]:
        """Return the columns of the members' rows, in the order of the index."""
        epoch, position, row, own_epoch = np.asarray(index, dtype=np.int64).T
        member = np.searchsorted(self._ends, row, side="right")
        columns: dict[str, Any] = {}
        for number in np.unique(member):
            mine = np.flatnonzero(member == number)
            first = self._ends[number] - self.sizes[number]
            own = np.stack([own_epoch[mine], position[mine], row[mine] - first], axis=1)
            for name, values in self.members[number].__getitems__(own).items():
                _place(columns, name, values, mine, len(row))
        columns |= {"example_id": row + len(self) * own_epoch, "epoch": epoch, "epoch_place": position}
        if self.samples is None:
            return columns
        return {**columns, "progress": (epoch * len(self) + position) / self.samples}


def _place(columns: dict[str, Any], name: str, values: Any, where: NDArray[np.int64], rows: int) -> None:
    """Write the values of some rows into a column of all rows, an array or a list."""
    if isinstance(values, np.ndarray):
        column = columns.setdefault(name, np.empty((rows, *values.shape[1:]), dtype=values.dtype))
        column[where] = values
        return
    column = columns.setdefault(name, [None] * rows)
    for place, value in zip(where.tolist(), values, strict=True):
        column[place] = value
