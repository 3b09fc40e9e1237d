"""``unmask samples``: the quality of generated texts in a file, without the model that generated them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unmask.cli.options import Device, Dtype, Field, Json, Seed


def samples(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The texts: a file of text, or of rows, such as those of generate --jsonl or fill --jsonl.",
        ),
    ],
    field: Field = "text",
    reference: Annotated[
        str | None, typer.Option(help="Field of the true text: exact match; with prompts also accuracy of the blanks.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Field of the text with blanks.")] = "prompt",
    mask: Annotated[str, typer.Option(help="Blank of the prompts.")] = "[MASK]",
    judge: Annotated[
        str | None,
        typer.Option(help="Causal language model (Hugging Face folder or hub name): generative perplexity."),
    ] = None,
    mauve: Annotated[
        Path | None, typer.Option(help="File of other texts: MAUVE of the two sets, under the judge.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task of unmask task whose answers the texts are: fraction that keeps its rules.")
    ] = None,
    unit: Annotated[
        str, typer.Option(help="What n-grams and entropy count: words, characters, or tokens of the judge.")
    ] = "words",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Measure samples: distinct n-grams, entropy, repetition, exact match, validity, generative perplexity, MAUVE."""
    from unmask.cli.screen import counting, print_json, table
    from unmask.studies.sample_quality import measure_samples

    texts, rows = _texts(source, field)
    references = None if reference is None else [_value(row, reference, source) for row in rows]
    prompts = [str(row[prompt]) for row in rows if row.get(prompt) is not None]
    blanks = references is not None and len(prompts) == len(texts) and any(mask[:-1] in text for text in prompts)
    report = measure_samples(
        texts, references=references, prompts=prompts if blanks else None, mask=mask,
        judge=judge, humans=None if mauve is None else _texts(mauve, field)[0], task=task, rows=rows, unit=unit,
        seed=seed, device=device, dtype=dtype, stages=counting,
    )  # fmt: skip
    if as_json:
        print_json({"file": str(source), **report})
        return
    figures = {name: value for name, value in report.items() if name not in ("samples", "unit")}
    table(
        f"{source}: {report['samples']:,} samples, counted in {report['unit']} (95% intervals)",
        ["", "value"],
        [[name.replace("_", " "), _shown(value)] for name, value in figures.items()],
    )


def _texts(path: Path, field: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the texts of a file, and their rows; a file of text has rows without fields."""
    from unmask.cli.records import read_records, read_rows
    from unmask.data.corpus.formats import format_of_file
    from unmask.data.corpus.row_shapes import ROW_KINDS

    if format_of_file(path) in ROW_KINDS:
        rows = [row for _, row in read_rows(path)]
        return [_value(row, field, path) for row in rows], rows
    texts = [record.text for record in read_records(path, field, (), "line")[0]]
    return texts, [{} for _ in texts]


def _value(row: dict[str, Any], name: str, path: Path) -> str:
    if row.get(name) is None:
        raise ValueError(
            f"A row of {path} has the fields {', '.join(row) or '(none)'}, and {name} is needed: choose with --field or --reference."
        )
    return str(row[name])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        numbers = [value[key] for key in ("value", "low", "high")]
        shown = ["unknown" if number is None else f"{number:.4f}" for number in numbers]
        return shown[0] if numbers[1] is None else f"{shown[0]} ({shown[1]} to {shown[2]})"
    return "unknown" if value is None else f"{value:.4f}"
