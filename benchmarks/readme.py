"""Tables of figures between two markers, replaced without other changes: headlines for the README, all for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unmask.measure.report_table import Row

HEADLINES = (
    ("MLM step at 15%, fp32", "Hugging Face BERT"),
    ("MLM step at 15%, bf16", "ModernBERT (sparse head)"),
    ("documents of mean length 180, fp32", "Hugging Face BERT, padded"),
    ("generation of 128 tokens, exact", "a full-logits loop"),
    ("token store → batch of 32 × 1,024, one core", ""),
)
SERVICE = "service"
"""Name of the block of the load figures (``benchmarks.serve``)."""


def markers(block: str) -> tuple[str, str]:
    """Return the lines around a block of figures."""
    return f"<!-- {block}:begin -->", f"<!-- {block}:end -->"


BEGIN, END = markers("bench")


def headlines(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the README shows, in its order; a section that was left out has none."""
    by_name = {(row.work, row.beside): row for row in rows}
    return [by_name[name] for name in HEADLINES if name in by_name]


def with_figures(text: str, table: str, block: str = "bench") -> str:
    """Return ``text`` with the part between the markers of a block replaced by ``table``; idempotent.

    Raises:
        ValueError: the markers do not occur once each, in order, or the table contains one.
    """
    begin, end = markers(block)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"The text must contain {begin} and, after it, {end}, once each: the figures go between them.")
    if begin in table or end in table:
        raise ValueError(f"The table contains a marker ({begin} or {end}). Remove it from the table.")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{table.strip()}\n{end}{after}"


def refresh(path: Path, table: str, block: str = "bench") -> None:
    """Put the figures of a block into a file.

    Raises:
        ValueError: it has no place for them; the file is as it was.
    """
    text = path.read_text(encoding="utf-8")
    path.write_text(with_figures(text, table, block), encoding="utf-8")
