"""Options of ``unmask score``, with one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Source = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="Texts to score: a file of any format that prepare reads (text, JSON lines, CSV, Parquet, FASTA, ids, traces, compressed too), "
        "a folder or dataset, or a prepared store.",
    ),
]
Before = Annotated[str, typer.Option("--before", help="Context before every text, given and not scored.")]
After = Annotated[str, typer.Option("--after", help="Context after every text, given and not scored.")]
Spans = Annotated[
    bool,
    typer.Option(
        "--spans",
        help="Rows of --input hold prompt and answer, or before, middle and after: score the answer, or the middle, given the rest.",
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        "--pairs",
        help="Minimal pairs (BLiMP's JSON lines, or a table with columns good and bad): accuracy by paradigm, ties half, with 95% intervals.",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--form",
        help="Pseudo-log-likelihood: original (each token given all others), word_l2r (later tokens of its word masked too), whole_word (its "
        "whole word masked), sentence_l2r (all later tokens masked: a log-likelihood).",
    ),
]
Bound = Annotated[
    bool, typer.Option("--bound", help="Compute the any-order likelihood bound instead of the pseudo-log-likelihood.")
]
Samples = Annotated[int, typer.Option("--samples", help="With --bound: number of averaged passes.")]
Exact = Annotated[
    bool, typer.Option("--exact", help="Compute the exact any-order likelihood of texts of up to 16 tokens.")
]
Per = Annotated[
    Literal["sentence", "word", "token"], typer.Option("--per", help="One row per sentence, word or token.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Write the rows to this file: .jsonl, .csv or .parquet, by its suffix; without a suffix, to a folder, part by part.",
    ),
]
Lines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per row.")]
