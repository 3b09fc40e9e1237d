"""``unmask demo``: a family of demonstrations, each from raw data to a trained model and what it can do, with nothing to download.

Every one is a module of ``unmask.cli.demos`` and a line of ``DEMOS``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import DEMO_RUN, Device

DEMOS = {
    "text": "Python's own documentation: fill blanks, write",
    "grid": "pictures: paint, complete, animate",
    "traces": "machine code of installed libraries: fill in instructions",
}


def demo(
    which: Annotated[
        str,
        typer.Argument(metavar=f"[{'|'.join(DEMOS)}]", help="; ".join(f"{n} = {m}" for n, m in DEMOS.items()) + "."),
    ] = "text",
    quick: Annotated[
        bool, typer.Option("--quick", help="Everything in under 90 seconds, with a smaller network.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; by default runs/demo for text, runs/demo-NAME for the others, with -quick after it if quick."
        ),
    ] = None,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--no-watch", help="Draw the unmasking step by step; by default on a terminal."),
    ] = None,
    device: Device = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", help="To train and evaluate in: auto (bfloat16 where it is fast), float32 or bfloat16."
        ),
    ] = "auto",
) -> None:
    """Train, evaluate, fill and plot on embedded data: about five minutes of training on two cores."""
    if which not in DEMOS:
        raise ValueError(
            f"There is no demo {which!r}. Choose one: "
            + "; ".join(f"`unmask demo {n}` ({m})" for n, m in DEMOS.items())
            + "."
        )
    if run is None:
        name = (DEMO_RUN.name if which == "text" else f"{DEMO_RUN.name}-{which}") + ("-quick" if quick else "")
        run = DEMO_RUN.with_name(name)
    import_module(f"unmask.cli.demos.{which}_demo").demo(quick, run, watch, device, dtype)
