"""Integers in memory shared by a process and its data loader workers.

A loader worker holds a copy of the dataset and of the collator. Integers in shared memory are the same in every copy, under
fork and under spawn. A change between two passes, such as the epoch, therefore reaches workers that stay alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class SharedCounts:
    """``size`` integers in shared memory, initially zero.

    A plain pickle or a deep copy creates independent counts with the present values.

    Args:
        size: number of integers.

    Attributes:
        values: int32 ``[size]``, a writable view of the shared memory.
    """

    def __init__(self, size: int = 1) -> None:
        self._share(torch.zeros(size, dtype=torch.int32))

    def _share(self, cells: torch.Tensor) -> None:
        shared: torch.Tensor = cells if cells.is_shared() else cells.share_memory_()  # type: ignore[no-untyped-call]  # torch does not annotate these two
        self._cells = shared
        self.values: NDArray[np.int32] = shared.numpy()

    def __getstate__(self) -> dict[str, Any]:
        return {"cells": self._cells}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._share(state["cells"])
