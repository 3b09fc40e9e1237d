"""``unmask orders``: quality of every decoding order against the number of forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import Device, Dtype, Json, Which


def orders(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run of text, or of prompts with answers.")],
    rows: Annotated[int, typer.Option(help="Number of held-out rows to decode.")] = 64,
    steps: Annotated[
        str | None,
        typer.Option(help="Forward passes at most, such as 1,4,16; by default powers of two up to one per position."),
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="Length of blocks; by default that of the network's attention, else 16.")
    ] = None,
    bounds: Annotated[int | None, typer.Option(help="Settings of each commit rule; by default all.")] = None,
    out: Annotated[
        list[Path] | None, typer.Option("--out", "-o", help="File: the four panels (.png), or figures (.json).")
    ] = None,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Decode held-out rows with every order at several numbers of forward passes, and draw quality against cost."""
    from unmask.cli.screen import counting, note, print_json, table
    from unmask.storage import write_json
    from unmask.studies.order_plot import plot_orders
    from unmask.studies.order_study import order_cells, study_orders

    for path in out or ():
        if path.suffix.lower() not in (".png", ".json"):
            raise ValueError(f"--out {path} is neither .png (four panels) nor .json (figures): choose one of them.")
    with counting("decoding") as told:
        report = study_orders(
            run, rows=rows, steps=whole_numbers(steps), block=block, bounds=bounds, device=device, dtype=dtype,
            checkpoint=which, told=told,
        )  # fmt: skip
    for path in out or ():
        (write_json(path, report) if path.suffix.lower() == ".json" else plot_orders(report, path))
        note(f"Wrote {path}.")
    if as_json:
        print_json(report)
        return
    for each in order_cells(report):
        table(*each)


def whole_numbers(text: str | None) -> list[int] | None:
    """Return the numbers of an option such as 1,4,16; None stays None.

    Raises:
        ValueError: other text.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--steps {text} is no list of whole numbers: write 1,4,16.") from None
