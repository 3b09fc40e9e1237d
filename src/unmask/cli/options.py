"""Options shared by several commands, with one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    Path,
    typer.Option(
        "--model",
        "-m",
        help="Run, checkpoint, export, Hugging Face model (folder or hub name), or Lightning checkpoint.",
    ),
]
Which = Annotated[str, typer.Option("--checkpoint", help="Checkpoint of a run: last, or best (by validation loss).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
JsonLines = Annotated[
    bool, typer.Option("--jsonl", help="Print one JSON object per text, as soon as its batch is decoded.")
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed.")]
Field = Annotated[str, typer.Option("--field", help="Field that holds the text (JSON lines, Parquet, datasets).")]
Unit = Annotated[
    Literal["file", "section", "paragraph", "line"] | None,
    typer.Option("--unit", help="Extent of one document in plain text."),
]
Split = Annotated[str, typer.Option("--split", help="Split of a Hugging Face dataset.")]
Watch = Annotated[bool, typer.Option("--watch", help="Draw the decoding in the terminal, step by step.")]
TracePage = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        help="Write the decoding as a page for a browser (.html), a picture of the first text (.png), or data (.json).",
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option(
        "--input", help="File with one text per line, or with rows: JSON lines (.jsonl) or Parquet; also compressed."
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder to write the results of the rows of --input to, part by part; the same command continues an interrupted one.",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Texts decoded together.")]
Device = Annotated[str, typer.Option("--device", help="Device: auto (the fastest one present), cpu, cuda or mps.")]
Dtype = Annotated[
    str, typer.Option("--dtype", help="Dtype of the weights: auto (as saved), float32, bfloat16 or float16.")
]

DEMO_RUN = Path("runs/demo")
