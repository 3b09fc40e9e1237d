"""``unmask demo``: demonstrations from raw data to a trained model and its uses, without downloads.

Each demonstration is a module of ``unmask.cli.demos`` and an entry of ``DEMOS``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import DEMO_RUN, Device

DEMOS = {
    "text": "Python's documentation: fill blanks, generate text, and sudoku",
    "sudoku": "solved sudoku grids: solve puzzles in the order the model chooses",
    "grid": "pictures of 16 × 16 cells: generate, complete, animate",
    "traces": "machine code of installed libraries: fill in instructions",
}


def demo(
    which: Annotated[
        str,
        typer.Argument(metavar=f"[{'|'.join(DEMOS)}]", help="; ".join(f"{n} = {m}" for n, m in DEMOS.items()) + "."),
    ] = "text",
    quick: Annotated[bool, typer.Option("--quick", help="Run in under 90 seconds, with a smaller network.")] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; by default runs/demo for text and runs/demo-NAME for the others, followed by -quick with --quick."
        ),
    ] = None,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--no-watch", help="Draw the decoding step by step; by default on a terminal."),
    ] = None,
    device: Device = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", help="Dtype of training and evaluation: auto (bfloat16 where it is fast), float32 or bfloat16."
        ),
    ] = "auto",
) -> None:
    """Train, evaluate, decode and plot on data that needs no download: about seven minutes on two cores."""
    if which not in DEMOS:
        raise ValueError(
            f"There is no demo {which!r}. Choose one of "
            + "; ".join(f"`unmask demo {n}` ({m})" for n, m in DEMOS.items())
            + "."
        )
    if run is None:
        name = (DEMO_RUN.name if which == "text" else f"{DEMO_RUN.name}-{which}") + ("-quick" if quick else "")
        run = DEMO_RUN.with_name(name)
    import_module(f"unmask.cli.demos.{which}_demo").demo(quick, run, watch, device, dtype)
