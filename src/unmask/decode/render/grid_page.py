"""Canvases that are pictures: a sheet as PNG, the unmasking as an animation, its order as a map, a live view in the terminal.

A palette has a colour for every id; ids without one, such as the mask, are shown as a checkered grey. Rows of ids are cells in
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
    """Return one row of ids as a picture, ``scale`` pixels per cell.

    Raises:
        ValueError: a row of another length than the grid has cells.
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
    """Return pictures of one size side by side, ``columns`` per row."""
    height, width, _ = pictures[0].shape
    rows = math.ceil(len(pictures) / columns)
    columns = min(columns, len(pictures))
    out = np.empty((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), np.uint8)
    out[:] = _PAPER
    for number, each in enumerate(pictures):
        top, left = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        out[top : top + height, left : left + width] = each
    return out


def save_png(path: str | os.PathLike[str], image: Picture) -> None:
    """Write a picture with a palette of its colours, atomically."""
    from PIL import Image

    with atomic_file(path) as temporary:
        Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(
            temporary, format="PNG", optimize=True
        )


def sheet_png(
    path: str | os.PathLike[str], ids: Any, grid: Grid, palette: Palette, columns: int = 8, scale: int = 8
) -> None:
    """Write rows of ids ``[N, L]`` as a sheet of pictures."""
    save_png(path, sheet([picture(row, grid, palette, scale) for row in np.asarray(ids)], columns))


def trace_frames(
    trace: Trace, grid: Grid, palette: Palette, columns: int = 8, scale: int = 8, most: int = 48
) -> list[Picture]:
    """Return the sheet after each step of a decode, from the initial canvas to the result; at most ``most``, evenly spaced."""
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
    """Write the unmasking as a looping animation that pauses on its last frame.

    Raises:
        ValueError: an unfinished trace.
    """
    from PIL import Image

    if not trace.final:
        raise ValueError("This trace has no finished decode. Record one first: wrapper.generate(observers=[trace]).")
    shown = trace_frames(trace, grid, palette, columns, scale)
    frames = [Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for frame in shown]
    pause = [max(20, round(1000 * seconds / len(frames)))] * (len(frames) - 1) + [2000]
    with atomic_file(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=pause, loop=0, optimize=True
        )


def order_picture(trace: Trace, grid: Grid, row: int = 0, scale: int = 8) -> Picture:
    """Return the final step of each cell of one row as colours: rust early, teal late; given cells are grey."""
    shown = np.empty((grid.cells, 3), np.uint8)
    shown[:] = _BLANK
    for event in trace.row_events(row):
        late = event.step / max(1, trace.num_steps - 1)
        shown[event.position] = _BLANK if event.token == trace.mask_id else confidence_colour(late)
    return shown.reshape(grid.height, grid.width, 3).repeat(scale, 0).repeat(scale, 1)


def terminal_picture(ids: Any, grid: Grid, palette: Palette) -> Text:
    """Return a row of ids as text, two cells per character, one above the other."""
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
    """An observer that draws one row of the batch as a picture while it is decoded; a context manager.

    Attributes:
        grid, palette: shape and colours of the picture.
        console: of rich.
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
        index = (step_results["rows"] == self.row).nonzero()[:, 0]
        if len(index):
            self._draw(step_results["output_ids"][int(index[0])])

    def end(self, decoded: Decoded) -> None:
        """Print the cost."""
        self.console.print(f"{len(decoded.ids)} pictures in {decoded.forward_passes} forward passes", highlight=False)

    def _draw(self, ids: torch.Tensor) -> None:
        if self._live is not None:
            self._live.update(terminal_picture(ids.cpu().numpy(), self.grid, self.palette), refresh=True)
