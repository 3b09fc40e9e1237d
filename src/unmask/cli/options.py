"""Options that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[Path, typer.Option("--model", "-m", help="Run folder or checkpoint.")]
Which = Annotated[str, typer.Option("--checkpoint", help="Which checkpoint of a run: last or best (by held-out loss).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Field = Annotated[str, typer.Option("--field", help="Field that holds the text (JSON lines, Parquet, datasets).")]
Unit = Annotated[Literal["file", "section", "paragraph", "line"] | None, typer.Option("--unit", help="What one document of plain text is.")]
Split = Annotated[str, typer.Option("--split", help="Split of a Hugging Face dataset.")]
Watch = Annotated[bool, typer.Option("--watch", help="Draw the unmasking in the terminal, step by step.")]
TracePage = Annotated[Path | None, typer.Option("--trace", help="Write the unmasking as a page to open in a browser (.html) or as data (.json).")]
Confidence = Annotated[
    str, typer.Option("--confidence", help="Which blanks first: top_prob, prob_diff, entropy (the surest), or random.")
]
Threshold = Annotated[float | None, typer.Option("--threshold", help="Reveal every blank at least this sure (0 to 1) instead of a fixed number a step.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Network evaluations, at most; by default one per blank.")]

DEMO_RUN = Path("runs/demo")
