"""Texts a command works on: arguments, or a file with one per line; decoded a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_texts(path: Path, field: str) -> list[str]:
    """One text per line: as it stands, or the ``field`` of each JSON object of a ``.jsonl`` file. Blank lines are skipped.

    Raises:
        ValueError: nothing in it, a line that is not a JSON object, or one without the field.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [_field(line, field, f"{path}:{n}") if path.suffix == ".jsonl" else line for n, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise ValueError(f"{path} holds no text: give one per line, or JSON lines with the field {field!r} in a file called *.jsonl.")
    return texts


def _field(line: str, field: str, place: str) -> str:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON ({error.msg}): a .jsonl file holds one object per line, such as {{\"{field}\": \"…\"}}.") from None
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        raise ValueError(f"{place} has no text under {field!r}: write {{\"{field}\": \"…\"}}.")
    return row[field]


def in_batches(count: int, size: int, shows_one: bool) -> Iterator[range]:
    """Row numbers, ``size`` at a time.

    Raises:
        ValueError: no rows to a batch, or several batches where only one can be shown.
    """
    if size < 1:
        raise ValueError(f"--batch-size {size} decodes nothing: give 1 or more.")
    if shows_one and count > size:
        raise ValueError(f"--watch and --trace show one batch, and {count} rows at --batch-size {size} are several. Give fewer texts or a larger --batch-size.")
    return (range(start, min(start + size, count)) for start in range(0, count, size))
