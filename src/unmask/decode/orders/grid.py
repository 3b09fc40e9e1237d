"""Orders of a two-dimensional canvas: cells are unmasked by their place in the grid.

    rows            reading order: left to right, top to bottom
    columns         top to bottom, left to right
    diagonals       from the upper left corner to the lower right one
    centre_out      from the middle outwards
    coarse_to_fine  every eighth cell, every fourth, …: cells unmasked together are far apart

Distant cells depend little on each other. The coarse-to-fine order therefore loses least when many cells are unmasked per step. Rows of ids
are cells in reading order, ``L = height * width``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.decode.reads import Reads
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs


def _coarse_to_fine(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Bayer's ordering: the lowest bits of the coordinates weigh most."""
    key = torch.zeros_like(row)
    for bit in range(max(height, width).bit_length()):
        key = 4 * key + 2 * ((row >> bit & 1) ^ (column >> bit & 1)) + (row >> bit & 1)
    return key


GRID_ORDERS: dict[str, Callable[[Tensor, Tensor, int, int], Tensor]] = {
    "rows": lambda row, column, height, width: row * width + column,
    "columns": lambda row, column, height, width: column * height + row,
    "diagonals": lambda row, column, height, width: row + column,
    "centre_out": lambda row, column, height, width: (
        (2 * row - height + 1).square() + (2 * column - width + 1).square()
    ),
    "coarse_to_fine": _coarse_to_fine,
}
"""By name: row and column of each cell, height, width -> sort key of each cell, lowest first."""


@dataclass(frozen=True)
class Grid:
    """The shape of a two-dimensional canvas.

    Args:
        height: rows of cells, at least 1.
        width: columns of cells, at least 1.

    Raises:
        ValueError: a height or width below 1.

    Examples:
        >>> Grid(2, 3).cells
        6
        >>> Grid(2, 3).rank("columns").tolist()
        [0, 2, 4, 1, 3, 5]
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"A grid of {self.height} × {self.width} cells has none: give a height and a width of 1 or more."
            )

    @property
    def cells(self) -> int:
        """The number of cells, ``height * width``."""
        return self.height * self.width

    def rank(self, order: str) -> Int[Tensor, " cells"]:
        """Return the rank of every cell in an order, int64 ``[L]``: 0 is first; ties are in reading order.

        Args:
            order: a name of ``GRID_ORDERS``.

        Raises:
            ValueError: an unknown order.
        """
        return _rank(self.height, self.width, order)


@cache
def _rank(height: int, width: int, order: str) -> Tensor:
    if order not in GRID_ORDERS:
        raise ValueError(f"There is no order {order!r} of a grid. Choose one of {', '.join(GRID_ORDERS)}.")
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    key = GRID_ORDERS[order](row.flatten(), column.flatten(), height, width)
    return key.argsort(stable=True).argsort()


@dataclass(frozen=True)
class GridOrder:
    """Unmask the cells of a grid in a fixed order. It reads no logits, so positions are chosen before tokens are sampled.

    Args:
        grid: the shape of the canvas.
        order: a name of ``GRID_ORDERS``.

    Raises:
        ValueError: an unknown order.

    Examples:
        >>> from unmask import Grid, GridOrder, make_rules
        >>> rules = make_rules(8, order=GridOrder(Grid(4, 4), "centre_out"))
        >>> rules.selector.score.order
        'centre_out'
    """

    grid: Grid
    order: str = "coarse_to_fine"
    reads: ClassVar[Reads] = Reads.NOTHING

    def __post_init__(self) -> None:
        self.grid.rank(self.order)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        """Return the scores ``[b, L]`` of all cells.

        Raises:
            ValueError: rows of another length than the grid has cells.
        """
        if view.ids.shape[1] != self.grid.cells:
            raise ValueError(
                f"A grid of {self.grid.height} × {self.grid.width} has {self.grid.cells} cells, and the rows have {view.ids.shape[1]}."
            )
        return -self.grid.rank(self.order).double().to(view.ids.device).expand(view.ids.shape)
