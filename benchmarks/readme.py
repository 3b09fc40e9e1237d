"""The README's figures: a table between two markers, replaced without other changes."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


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
