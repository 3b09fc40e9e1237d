"""Options that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[Path, typer.Option("--model", "-m", help="Run folder or checkpoint.")]
Which = Annotated[str, typer.Option("--checkpoint", help="Which checkpoint of a run: last or best (by held-out loss).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
JsonLines = Annotated[
    bool, typer.Option("--jsonl", help="Print one JSON object per text instead, as soon as its batch is done.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Field = Annotated[str, typer.Option("--field", help="Field that holds the text (JSON lines, Parquet, datasets).")]
Unit = Annotated[
    Literal["file", "section", "paragraph", "line"] | None,
    typer.Option("--unit", help="What one document of plain text is."),
]
Split = Annotated[str, typer.Option("--split", help="Split of a Hugging Face dataset.")]
Watch = Annotated[bool, typer.Option("--watch", help="Draw the unmasking in the terminal, step by step.")]
TracePage = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        help="Write the unmasking as a page to open in a browser (.html), a picture of the first text (.png) or data (.json).",
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option(
        "--input", help="File with one text per line, or with rows: JSON lines (.jsonl), Parquet; also compressed."
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Texts decoded together.")]
Device = Annotated[
    str, typer.Option("--device", help="Where to compute: auto (the fastest that is here), cpu, cuda or mps.")
]
Dtype = Annotated[
    str, typer.Option("--dtype", help="Of the weights: auto (as they were saved), float32, bfloat16 or float16.")
]

DEMO_RUN = Path("runs/demo")
