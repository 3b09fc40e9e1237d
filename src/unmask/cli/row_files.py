"""Rows of results as a file: JSON lines, CSV or Parquet, by its suffix. A file is complete or absent."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unmask.registry import Registry
from unmask.storage import atomic_file

Rows = Sequence[dict[str, Any]]


def _json_lines(path: Path, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(path: Path, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Return a value as a cell of a table; lists and mappings are JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _parquet(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path)


ROW_WRITERS: Registry[Callable[[Path, Rows], None]] = Registry(
    "suffix of a file of rows",
    {
        ".jsonl": (_json_lines, "one JSON object per line"),
        ".csv": (_csv, "a table with a header; an unknown figure is an empty cell"),
        ".parquet": (_parquet, "columns with types"),
    },
)


def check_suffix(path: Path) -> None:
    """Check that rows can be written to a file of this name, before they are computed.

    Raises:
        ValueError: another suffix.
    """
    ROW_WRITERS.choose(path.suffix.lower())


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows, all with the same keys up to missing ones.

    Args:
        path: ``*.jsonl``, ``*.csv`` or ``*.parquet``.
        rows: JSON objects.

    Raises:
        ValueError: another suffix.
    """
    write = ROW_WRITERS.choose(path.suffix.lower())
    with atomic_file(path) as temporary:
        write(temporary, rows)
