"""``unmask evaluate``: likelihood bound and accuracy of a model on unseen text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options
from unmask.cli.options import Field, Json, Seed, Split, Unit


@model_options
def evaluate(
    chosen: ModelChoice = DEFAULT_MODEL,
    data: Annotated[
        str | None, typer.Option(help="Text to evaluate on (as for prepare); by default the run's validation split.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Passes over the documents, each with other masks.")] = 4,
    documents: Annotated[int | None, typer.Option(help="Evaluate only the first N documents.")] = None,
    baselines: Annotated[
        bool, typer.Option(help="Also evaluate counting models (unigram, two neighbours) of the run's training text.")
    ] = True,
    curve: Annotated[
        int | None, typer.Option(help="Also measure loss and accuracy at N evenly spaced noise levels.")
    ] = None,
    single: Annotated[
        bool,
        typer.Option(
            "--single",
            help="Also mask every token in turn, alone: accuracy and pseudo-perplexity, at a forward pass per token.",
        ),
    ] = False,
    field: Field = "text",
    unit: Unit = None,
    split: Split = "train",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Bound the negative log-likelihood of unseen text: bits per byte, per word and per token, with 95% intervals."""
    from unmask.cli.screen import counting, print_json
    from unmask.data.corpus.sources import Source
    from unmask.report import evaluate_model
    from unmask.storage import write_json

    if documents is not None and documents < 1:
        raise ValueError(f"--documents {documents} leaves nothing to evaluate on: choose 1 or more.")
    loaded = chosen.load()
    source = None if data is None else Source.parse(data, field=field, unit=unit, split=split)
    report = evaluate_model(
        loaded,
        source,
        samples=samples,
        documents=documents,
        baselines=baselines,
        curve=curve,
        single=single,
        seed=seed,
        stages=counting,
    )
    run = loaded.folder.parent.parent
    # A complete evaluation is stored, and `unmask demo` reuses it.
    is_complete = data is None and documents is None and baselines and chosen.dtype == "auto"
    if is_complete and (run / "config.yaml").is_file():
        write_json(run / "evaluation.json", report)
    if as_json:
        print_json(report)
    else:
        print_report(report)


def print_report(report: Mapping[str, Any]) -> None:
    """Print an evaluation report as tables and sentences."""
    from unmask.cli.screen import show, table
    from unmask.report import EvaluationReport

    for part in EvaluationReport(report).parts():
        if isinstance(part, str):
            show(part)
        else:
            table(*part)
