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
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def headlines(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the README shows, in its order; a section that was left out has none."""
    by_name = {(row.work, row.beside): row for row in rows}
    return [by_name[name] for name in HEADLINES if name in by_name]


def with_figures(text: str, table: str) -> str:
    """Return ``text`` with the part between the markers replaced by ``table``; idempotent.

    Raises:
        ValueError: the markers do not occur once each, in order, or the table contains one.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"The text must contain {BEGIN} and, after it, {END}, once each: the figures go between them.")
    if BEGIN in table or END in table:
        raise ValueError(f"The table contains a marker ({BEGIN} or {END}). Remove it from the table.")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table.strip()}\n{END}{after}"


def refresh(path: Path, table: str) -> None:
    """Put the figures into a file.

    Raises:
        ValueError: it has no place for them; the file is as it was.
    """
    text = path.read_text(encoding="utf-8")
    path.write_text(with_figures(text, table), encoding="utf-8")
