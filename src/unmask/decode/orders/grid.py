"""Orders of a two-dimensional canvas: which cells are revealed first, by where they stand in the grid.

    rows            as one reads: left to right, top to bottom
    columns         top to bottom, left to right
    diagonals       from the upper left corner to the lower right one
    centre_out      the middle first, the rim last
    coarse_to_fine  every eighth cell, every fourth, … : cells revealed together stand far apart

Cells that stand far apart tell little of each other, so an order from coarse to fine is the one that loses least by revealing many
in one step. Rows of ids are cells in reading order, ``L = height * width``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs

GRID_ORDERS = ("rows", "columns", "diagonals", "centre_out", "coarse_to_fine")


@dataclass(frozen=True)
class Grid:
    """The shape of a canvas.

    Attributes:
        height, width: cells.

    Raises:
        ValueError: a side without cells.
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
        return self.height * self.width

    def rank(self, order: str) -> Int[Tensor, " cells"]:
        """The place of every cell in an order, ``[L]``: 0 is revealed first; ties are in reading order.

        Raises:
            ValueError: there is no order of that name.
        """
        return _rank(self.height, self.width, order)


@cache
def _rank(height: int, width: int, order: str) -> Tensor:
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    row, column = row.flatten(), column.flatten()
    if order == "rows":
        key = row * width + column
    elif order == "columns":
        key = column * height + row
    elif order == "diagonals":
        key = row + column
    elif order == "centre_out":
        key = (2 * row - height + 1).square() + (2 * column - width + 1).square()
    elif order == "coarse_to_fine":
        key = torch.zeros_like(row)
        for bit in range(max(height, width).bit_length()):  # Bayer's ordering: the lowest bits weigh most
            key = 4 * key + 2 * ((row >> bit & 1) ^ (column >> bit & 1)) + (row >> bit & 1)
    else:
        raise ValueError(f"There is no order {order!r} of a grid. Choose one of {', '.join(GRID_ORDERS)}.")
    return key.argsort(stable=True).argsort()


@dataclass(frozen=True)
class GridOrder:
    """Reveal the cells of a grid in an order of their own; it reads no logits, so the choice comes before the draw.

    Attributes:
        grid: the shape of the canvas.
        order: a name of ``GRID_ORDERS``.
    """

    grid: Grid
    order: str = "coarse_to_fine"
    needs_logits: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.grid.rank(self.order)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        if view.ids.shape[1] != self.grid.cells:
            raise ValueError(
                f"A grid of {self.grid.height} × {self.grid.width} has {self.grid.cells} cells, and the rows have {view.ids.shape[1]}."
            )
        return -self.grid.rank(self.order).double().to(view.ids.device).expand(view.ids.shape)
