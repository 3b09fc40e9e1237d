"""A trace as a PNG: tokens across, steps down, a square where a token was placed, coloured by its probability."""

from __future__ import annotations

import math
import os
from typing import Any

from unmask.decode.observers.trace import Trace
from unmask.decode.render.colour import STOPS
from unmask.decode.render.pieces import Pieces
from unmask.storage import atomic_file

_MOST_PER_PANEL = 60


def trace_png(path: str | os.PathLike[str], trace: Trace, tokenizer: Any, row: int = 0, title: str = "") -> None:
    """Draw one row of a decode.

    Args:
        path: of the PNG, written atomically.
        trace: a finished decode.
        tokenizer: decodes ids into text; None shows ids.
        row: of the batch.
        title: above the plot.

    Raises:
        ValueError: a row that the trace does not have.
    """
    if not 0 <= row < len(trace.final):
        raise ValueError(
            f"row={row} is outside the trace, which has {len(trace.final)} finished rows: give 0 to {len(trace.final) - 1}."
        )
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure

    colours = LinearSegmentedColormap.from_list("confidence", [tuple(c / 255 for c in stop) for stop in STOPS])
    kept = [i for i, real in enumerate(trace.real[row]) if real]
    column = {at: place for place, at in enumerate(kept)}
    texts = [_visible(piece) for piece in Pieces(tokenizer)([trace.final[row][i] for i in kept])]
    events = [e for e in trace.row_events(row) if e.token != trace.mask_id]
    revealed = {column[e.position] for e in events}
    steps = max((e.step for e in events), default=0) + 1

    panels = max(1, math.ceil(len(kept) / _MOST_PER_PANEL))
    width = math.ceil(len(kept) / panels)
    figure = Figure(
        figsize=(2.2 + 0.24 * width, 0.9 + panels * (1.1 + min(0.11 * steps, 4.0))), layout="constrained", dpi=150
    )
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for panel, ax in enumerate(axes):
        first = panel * width
        own = [e for e in events if first <= column[e.position] < first + width]
        ticks = range(first, min(first + width, len(kept)))
        for place in ticks:
            if place not in revealed:
                ax.axvspan(place - 0.5, place + 0.5, color="#8a8f98", alpha=0.12, linewidth=0)
        ax.scatter(
            [column[e.position] for e in own],
            [e.step + 1 for e in own],
            c=[e.probability for e in own],
            cmap=colours,
            vmin=0,
            vmax=1,
            marker="s",
            s=max(4.0, min(60.0, 900.0 / steps)),
            linewidths=0,
        )
        ax.set_xlim(first - 0.5, first + width - 0.5)
        ax.set_ylim(steps + 0.7, 0.3)
        ax.set_xticks(ticks, [texts[i] for i in ticks], rotation=90, fontsize=7, family="monospace", parse_math=False)
        for tick, place in zip(ax.get_xticklabels(), ticks, strict=True):
            tick.set_color("#1f2328" if place in revealed else "#8a8f98")
        ax.tick_params(length=0)
        ax.set_ylabel("step", fontsize=8)
        ax.tick_params(axis="y", labelsize=7)
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y", linewidth=0.4, alpha=0.4)
        ax.set_axisbelow(True)
        for side in ("top", "right", "bottom"):
            ax.spines[side].set_visible(False)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), colours), ax=list(axes), fraction=0.02, pad=0.01, aspect=30)
    bar.set_label("probability of the placed token", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _visible(piece: str) -> str:
    shown = piece.replace("\n", "↵").replace("\t", "→").replace(" ", "·")
    return shown if len(shown) <= 14 else shown[:13] + "…"
