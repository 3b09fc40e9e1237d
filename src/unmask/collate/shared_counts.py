"""Whole numbers that a process and its loader workers read and write together.

A loader worker holds a copy of the dataset and the collator. Numbers in shared memory are the same in every copy, under fork and
under spawn. A number that moves between two passes therefore reaches workers that stay alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class SharedCounts:
    """``size`` integers in shared memory, zero at first.

    A plain pickle or a deep copy starts counts of its own from the present values.

    Attributes:
        values: int32 ``[size]``, a view of the shared memory.
    """

    def __init__(self, size: int = 1) -> None:
        self._share(torch.zeros(size, dtype=torch.int32))

    def _share(self, cells: torch.Tensor) -> None:
        self._cells = cells if cells.is_shared() else cells.share_memory_()
        self.values: NDArray[np.int32] = self._cells.numpy()

    def __getstate__(self) -> dict[str, Any]:
        return {"cells": self._cells}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._share(state["cells"])
