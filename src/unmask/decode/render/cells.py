"""A running decode of a square of cells, such as a sudoku, in the terminal: one token per cell, boxes apart.

given cells are dim, masked ones dots, placed ones have the colour of their probability; those of the last step are bold
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from torch import Tensor

from unmask.decode.render.colour import confidence_hex
from unmask.decode.render.terminal import TerminalView


def cells_text(cells: Sequence[Text], box: tuple[int, int]) -> Text:
    """Return a square of cells as lines of text, with lines between boxes.

    Args:
        cells: one character each, in reading order.
        box: height and width of a box, in cells.

    Raises:
        ValueError: another number of cells than a square of boxes has.

    Examples:
        >>> from rich.text import Text
        >>> print(cells_text([Text(c) for c in "1234341221434321"], (2, 2)).plain)
        1 2 │ 3 4
        3 4 │ 1 2
        ────┼────
        2 1 │ 4 3
        4 3 │ 2 1
    """
    height, width = box
    side = math.isqrt(len(cells))
    if side * side != len(cells) or side % height or side % width:
        raise ValueError(
            f"{len(cells)} cells are no square of boxes of {height} × {width}: give {(height * width) ** 2} cells."
        )
    rule = "┼".join("─" * (2 * width + (1 if 0 < n < side // width - 1 else 0)) for n in range(side // width))
    lines: list[Text] = []
    for row in range(side):
        if row and row % height == 0:
            lines.append(Text(rule, style="dim"))
        line = Text()
        for column in range(side):
            if column:
                line.append(" │ " if column % width == 0 else " ", style="dim")
            line.append_text(cells[row * side + column])
        lines.append(line)
    return Text("\n").join(lines)


class CellsView(TerminalView):
    """A ``TerminalView`` whose rows are squares of cells; further tokens of a row, such as its end, are not drawn.

    Args:
        tokenizer: decodes ids into text.
        box: height and width of a box, in cells.
        console: of rich; standard output if None.
        pause: seconds to wait after each step.
        max_rows: rows of the batch to draw.

    Examples:
        >>> from unmask.decode.render.cells import CellsView
        >>> CellsView(None, (2, 3)).box
        (2, 3)
    """

    def __init__(
        self,
        tokenizer: Any,
        box: tuple[int, int],
        console: Console | None = None,
        pause: float = 0.0,
        max_rows: int = 1,
    ) -> None:
        super().__init__(tokenizer, console, pause, max_rows)
        self.box: tuple[int, int] = box

    def _row(self, row: int, fresh: Tensor) -> Text:
        count = (self.box[0] * self.box[1]) ** 2
        kept = self._real[row].nonzero()[:, 0].tolist()[:count]
        cells = []
        for at, piece in zip(kept, self._pieces(self._ids[row, kept].tolist()), strict=True):
            if self._blank[row, at]:
                cells.append(Text("·", style="dim"))
            elif self._given[row, at]:
                cells.append(Text(piece, style="dim"))
            else:
                bold = "bold " if fresh[row, at] else ""
                cells.append(Text(piece, style=f"{bold}{confidence_hex(float(self._probability[row, at]))}"))
        return Text("\n").join([cells_text(cells, self.box), Text("")])
