"""``unmask tune``: generation defaults of a run, or the range of mask rates to train on, by measurement on held-out rows."""

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
    clip: Annotated[
        bool,
        typer.Option("--clip", help="Instead find the range of mask rates whose training loss varies least (BD3-LM)."),
    ] = False,
    clip_width: Annotated[
        list[float] | None,
        typer.Option(help="Width of the ranges of --clip, tried at every 0.05; repeat for several; by default 0.5."),
    ] = None,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Find order, threshold and steps that keep a share of full-step quality with the fewest forward passes."""
    from unmask.cli.screen import counting, note, print_json, table
    from unmask.studies.tuning import tune_run

    if clip:
        _clip(run, clip_width or [0.5], rows, which, device, dtype, as_json)
        return
    if clip_width:
        raise ValueError("--clip-width is the width of the ranges of --clip: add --clip, or leave the width out.")
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


def _clip(run: str, widths: list[float], rows: int, which: str, device: str, dtype: str, as_json: bool) -> None:
    """Print the variance of the loss for every range of mask rates, and the config keys of the least."""
    from unmask.cli.screen import counting, print_json, show, table
    from unmask.studies.clip_tuning import tune_clip

    with counting("measuring ranges") as told:
        report = tune_clip(run, widths=widths, rows=rows, device=device, dtype=dtype, checkpoint=which, told=told)
    if as_json:
        print_json(report)
        return
    lines = [
        [f"{each['rate_min']:g} to {each['rate_max']:g}", f"{each['variance']:.4f}", f"{each['loss']:.3f}"]
        for each in sorted(report["ranges"], key=lambda each: float(each["variance"]))
    ]
    table("Loss by range of mask rates, least variance first", ["rates", "variance", "nats per token"], lines)
    show(f"Train on the range of least variance: unmask train … {' '.join(report['overrides'])}")


def _cells(name: str, found: dict[str, Any]) -> list[str]:
    cells = [name, found["order"], f"{found['threshold']:g}" if "threshold" in found else "", str(found["max_steps"])]
    for half in ("choice", "check"):
        cells += [f"{found[half]['forward_passes']:.1f}", f"{found[half]['quality']['value']:.1%}"]
    return cells
