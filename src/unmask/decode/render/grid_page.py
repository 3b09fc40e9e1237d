"""Canvases that are pictures: a sheet as PNG, the unmasking as an animation, its order as a map, a live view in the terminal.

A palette gives every id a colour; ids without one, the mask among them, are shown as a checkered grey. Rows of ids are cells in
reading order.

Shapes: ids ``[N, height * width]``; pictures uint8 ``[H, W, 3]``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.observers.base import Decoded
from unmask.decode.observers.trace import Trace
from unmask.decode.orders.grid import Grid
from unmask.decode.render.colour import confidence_colour
from unmask.decode.render.live import LiveView
from unmask.storage import atomic_file

Picture = NDArray[np.uint8]
Palette = Sequence[tuple[int, int, int]]
_BLANK, _BLANK_DARK, _PAPER = (208, 208, 212), (192, 192, 198), (250, 250, 250)


def picture(ids: Any, grid: Grid, palette: Palette, scale: int = 8) -> Picture:
    """One row of ids as a picture, ``scale`` pixels a cell.

    Raises:
        ValueError: the row has not as many cells as the grid.
    """
    cells = np.asarray(ids).reshape(-1)
    if cells.size != grid.cells:
        raise ValueError(
            f"A grid of {grid.height} × {grid.width} has {grid.cells} cells, and the row has {cells.size}."
        )
    board = cells.reshape(grid.height, grid.width)
    checks = (np.add.outer(np.arange(grid.height), np.arange(grid.width)) % 2).astype(bool)
    shown = np.where(checks[..., None], np.array(_BLANK, np.uint8), np.array(_BLANK_DARK, np.uint8))
    known = (board >= 0) & (board < len(palette))
    shown[known] = np.asarray(palette, dtype=np.uint8)[board[known]]
    return shown.repeat(scale, 0).repeat(scale, 1)


def sheet(pictures: Sequence[Picture], columns: int = 8, gap: int = 6) -> Picture:
    """Pictures of one size side by side, ``columns`` a row."""
    height, width, _ = pictures[0].shape
    rows = math.ceil(len(pictures) / columns)
    columns = min(columns, len(pictures))
    out = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), np.uint8)
    out[:] = _PAPER
    for number, one in enumerate(pictures):
        top, left = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        out[top : top + height, left : left + width] = one
    return out


def save_png(path: str | os.PathLike[str], image: Picture) -> None:
    """Write a picture with as few colours as it has, whole or not at all."""
    from PIL import Image

    with atomic_file(path) as temporary:
        Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(
            temporary, format="PNG", optimize=True
        )


def sheet_png(
    path: str | os.PathLike[str], ids: Any, grid: Grid, palette: Palette, columns: int = 8, scale: int = 8
) -> None:
    """Rows of ids ``[N, L]`` as a sheet of pictures."""
    save_png(path, sheet([picture(row, grid, palette, scale) for row in np.asarray(ids)], columns))


def trace_frames(
    trace: Trace, grid: Grid, palette: Palette, columns: int = 8, scale: int = 8, most: int = 48
) -> list[Picture]:
    """The sheet after every step of a decode, from the canvas as given to the result; at most ``most`` of them, evenly spread."""
    steps = np.unique(np.linspace(0, trace.num_steps, min(most, trace.num_steps + 1)).round().astype(int))
    return [
        sheet([picture(row, grid, palette, scale) for row in trace.replay(int(step)).numpy()], columns)
        for step in steps
    ]


def trace_gif(
    path: str | os.PathLike[str],
    trace: Trace,
    grid: Grid,
    palette: Palette,
    columns: int = 8,
    scale: int = 8,
    seconds: float = 4.0,
) -> None:
    """The unmasking as an animation that repeats and rests on its last frame.

    Raises:
        ValueError: the trace is of no finished decode.
    """
    from PIL import Image

    if not trace.final:
        raise ValueError(
            "This trace is of no finished decode, so there is nothing to show. Give it as an observer first."
        )
    shown = trace_frames(trace, grid, palette, columns, scale)
    frames = [Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for frame in shown]
    pause = [max(20, round(1000 * seconds / len(frames)))] * (len(frames) - 1) + [2000]
    with atomic_file(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=pause, loop=0, optimize=True
        )


def order_picture(trace: Trace, grid: Grid, row: int = 0, scale: int = 8) -> Picture:
    """When each cell of one row was revealed for good: rust early, teal late; given cells are grey."""
    shown = np.empty((grid.cells, 3), np.uint8)
    shown[:] = _BLANK
    for event in trace.row_events(row):
        late = event.step / max(1, trace.num_steps - 1)
        shown[event.position] = _BLANK if event.token == trace.mask_id else confidence_colour(late)
    return shown.reshape(grid.height, grid.width, 3).repeat(scale, 0).repeat(scale, 1)


def terminal_picture(ids: Any, grid: Grid, palette: Palette) -> Text:
    """A row of ids as text, two cells a character, one above the other."""
    cells = picture(ids, grid, palette, scale=1)
    text = Text()
    for top in range(0, grid.height, 2):
        for column in range(grid.width):
            upper = "rgb({},{},{})".format(*cells[top, column])
            lower = " on rgb({},{},{})".format(*cells[top + 1, column]) if top + 1 < grid.height else ""
            text.append("▀", style=upper + lower)
        text.append("\n")
    return text


@dataclass
class GridView(LiveView):
    """An observer that draws one row of the batch as a picture while it is decoded; in a pipe it says how far it is.

    Attributes:
        grid, palette: shape and colours.
        console: where to draw.
        row: of the batch.
    """

    grid: Grid
    palette: Palette
    console: Console = field(default_factory=Console)
    row: int = 0

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Draw the canvas as given."""
        self._draw(canvas.ids[self.row])

    def update_history(self, step_results: MLMStepResults) -> None:
        """Draw one step."""
        mine = (step_results["rows"] == self.row).nonzero()[:, 0]
        if len(mine):
            self._draw(step_results["output_ids"][int(mine[0])])

    def end(self, decoded: Decoded) -> None:
        """Say what it cost."""
        self.console.print(
            f"{len(decoded.ids)} pictures in {decoded.forward_passes} network evaluations", highlight=False
        )

    def _draw(self, ids: torch.Tensor) -> None:
        if self._live is not None:
            self._live.update(terminal_picture(ids.cpu().numpy(), self.grid, self.palette), refresh=True)
