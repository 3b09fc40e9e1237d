"""``unmask tune``: generation defaults of a run, with the fewest forward passes for a share of full-step quality."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unmask.cli.options import Device, Dtype, Json, Which


def tune(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run of text, or of prompts with answers.")],
    quality: Annotated[float, typer.Option(help="Share of full-step quality to keep.")] = 0.99,
    rows: Annotated[int, typer.Option(help="Held-out rows to choose on; as many others check the choice.")] = 64,
    write: Annotated[
        bool,
        typer.Option("--write/--no-write", help="Write the options to generation.json of the run, or only show them."),
    ] = True,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Find order, threshold and steps that keep a share of full-step quality with the fewest forward passes."""
    from unmask.cli.screen import counting, note, print_json, table
    from unmask.studies.tuning import tune_run

    with counting("decoding") as told:
        report = tune_run(run, quality, rows=rows, device=device, dtype=dtype, checkpoint=which, write=write, told=told)
    if report["file"] is not None:
        note(f"Wrote {report['file']}: {report['defaults']}. unmask fill, generate and serve use it by default.")
    if as_json:
        print_json(report)
        return
    what = {"whole": "rows right", "tokens": "tokens right"}[report["quality_is"]]
    table(
        f"Fewest forward passes for {quality:.1%} of full-step quality ({report['rows_checked_on']} rows of the check)",
        ["", "order", "threshold", "steps", "passes", what, "passes, check", f"{what}, check"],
        [_cells(name, report[name]) for name in ("full", "chosen")],
    )


def _cells(name: str, found: dict[str, Any]) -> list[str]:
    cells = [name, found["order"], f"{found['threshold']:g}" if "threshold" in found else "", str(found["max_steps"])]
    for half in ("choice", "check"):
        cells += [f"{found[half]['forward_passes']:.1f}", f"{found[half]['quality']['value']:.1%}"]
    return cells
