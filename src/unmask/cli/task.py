"""``unmask task``: write the rows of a task with a config, or score a run on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from unmask.cli.decoding import Decoding, decoding_options
from unmask.cli.options import BatchSize, Device, Dtype, Json, Which
from unmask.tasks.names import TASK_DESCRIPTIONS


@decoding_options(order="top_prob", temperature=0.0)
def task(
    decoding: Decoding,
    name: Annotated[
        str,
        typer.Argument(help="; ".join(f"{name}: {text}" for name, text in TASK_DESCRIPTIONS.items()) + "."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for train and valid rows and config.yaml.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", help="Number of training rows (10,000), or of rows to score (1,000).")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--source",
            help="File in the published format of the task: rows to write, or to score; by default they are generated.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the generated rows, such as clues=30; repeat for several."),
    ] = None,
    score: Annotated[
        Path | None, typer.Option("--score", help="Run to score: decode its validation rows, or those of --source.")
    ] = None,
    batch_size: BatchSize = 256,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Write the rows of a task with checkable answers, or score the answers of a run."""
    from unmask.cli.screen import counting, note, print_json, table
    from unmask.runs import load_run
    from unmask.tasks.catalogue import TASKS, with_settings
    from unmask.tasks.task_files import read_rows, write_task

    chosen = with_settings(TASKS.choose(name), settings or ())
    if (out is None) == (score is None):
        raise ValueError("Give one of --out FOLDER, which writes rows, and --score RUN, which decodes them.")
    if rows is not None and rows < 1:
        raise ValueError(f"--rows {rows} leaves no row: choose 1 or more.")
    if out is not None:
        config = write_task(chosen, out, rows or 10_000, decoding.seed, source)
        run = f"runs/{name}"
        note(f"Wrote {out}.")
        print(f"Train on it: unmask train {config} run={run}\nScore it: unmask task {name} --score {run}")
        return
    assert score is not None
    loaded = load_run(score, which, device, dtype)
    held_out = read_rows(chosen, loaded.config.data.valid_source if source is None else str(source))[: rows or 1000]
    about: dict[str, Any] = {"task": name, "model": str(loaded.folder), "step": loaded.step, "rows": len(held_out)}
    with counting("decoding") as progress:
        if "text" in held_out[0]:
            from unmask.text.task_answers import excess_bits

            about |= excess_bits(loaded.model, loaded.tokenizer, chosen, held_out, decoding.seed, progress)
        else:
            from unmask.tasks.catalogue import score_answers
            from unmask.text.task_answers import decode_answers

            rules = partial(decoding.rules, loaded.model, loaded.tokenizer)
            answers, passes = decode_answers(
                loaded.model, loaded.tokenizer, held_out, rules, decoding.seed, batch_size, progress
            )
            about |= {
                "order": decoding.order,
                "forward_passes": passes,
                **score_answers(chosen, held_out, answers).as_dict(),
            }
    if as_json:
        print_json(about)
        return
    figures = {key: value for key, value in about.items() if isinstance(value, dict) and "value" in value}
    shown = [[key, _interval(value)] for key, value in figures.items()]
    for group, each in about.get("groups", {}).items():
        shown += [[f"{key}, {group} ({each['rows']:,})", _interval(each[key])] for key in ("exact", "valid")]
    table(f"{name}: {len(held_out):,} rows, order {decoding.order} (95% intervals)", ["", "value"], shown)


def _interval(estimate: dict[str, float | None]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return f"{value:.4f}" if low is None else f"{value:.4f} ({low:.4f} to {high:.4f})"
