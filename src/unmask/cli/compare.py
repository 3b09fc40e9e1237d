"""``unmask compare``: runs beside each other, as paired differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.comparison_files import COMPARISON_WRITERS, comparison_cells
from unmask.cli.options import Device, Dtype, Json, Seed, Which


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Runs, exports, folders of `train --seeds` (one entry, several seeds), or files of --save.",
        ),
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Entry that the others are compared with; by default the first.")
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(help="Unit: byte, word or token; by default bytes where the texts are known, else tokens."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Text to evaluate on (as for prepare); by default the validation split of the runs."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Passes over the documents, each with other masks.")] = 4,
    documents: Annotated[int | None, typer.Option(help="Evaluate only the first N documents.")] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", "-o", help=f"File by suffix, repeat for several: {COMPARISON_WRITERS.help()}."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder for the measurements: files that take the place of a run later.")
    ] = None,
    seed: Seed = 0,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Compare runs on the same documents and masks: bits per byte or token, and paired differences with corrected p-values."""
    from unmask.cli.screen import counting, note, print_json, table
    from unmask.studies.comparison import compare_runs

    for path in out or ():
        COMPARISON_WRITERS.choose(path.suffix.lower())
    report = compare_runs(
        runs, data, baseline=baseline, per=per, samples=samples, documents=documents, seed=seed,
        checkpoint=which, device=device, dtype=dtype, save=save, stages=counting,
    )  # fmt: skip
    for path in out or ():
        COMPARISON_WRITERS[path.suffix.lower()](path, report)
        note(f"Wrote {path}.")
    if as_json:
        print_json(report)
        return
    table(*comparison_cells(report))
    if report["note"]:
        note(report["note"])
