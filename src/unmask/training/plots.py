"""The loss curve of a run as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from unmask.storage import atomic_file
from unmask.training.callbacks import read_metrics


def plot_loss(metrics: Path, picture: Path, title: str, reference_lines: dict[str, float] | None = None) -> None:
    """Draw training and validation loss (bits per scored token) against optimiser steps.

    Args:
        metrics: ``metrics.csv`` of a run.
        picture: the PNG file to write.
        title: title of the plot.
        reference_lines: label -> bits per token, drawn as dashed horizontal lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("train/loss", "training", {"color": "#7aa6c2", "linewidth": 1.2}),
        ("valid/loss", "validation", {"color": "#c2410c", "linewidth": 2.0, "marker": "o", "markersize": 3.5}),
    )
    for name, label, style in styles:
        points = [(step, value / math.log(2)) for step, n, value in rows if n == name]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)
    for label, level in (reference_lines or {}).items():
        axes.axhline(level, color="#777777", linewidth=1, linestyle="--")
        axes.annotate(
            label,
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss, bits per token")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    with atomic_file(picture) as temporary:
        figure.savefig(temporary, format="png")
