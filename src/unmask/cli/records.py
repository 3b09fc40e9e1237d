"""The rows of an input file as records: a text, its place, and the fields to carry to the output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unmask.cli.texts import read_standard_input
from unmask.data.corpus.formats import FORMATS, ReadOptions, format_of_file, not_prose
from unmask.data.corpus.readers import as_text, unknown_field
from unmask.data.corpus.row_shapes import ROW_KINDS
from unmask.data.corpus.text_stream import Input

if TYPE_CHECKING:
    from unmask.text.vector_files import Record

CARRIED = ("id", "source")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the fields of every row of a table or a file of JSON lines.

    Args:
        path: the file.

    Raises:
        ValueError: a file without rows, or an unreadable line.
    """
    kind = format_of_file(path)
    if kind not in ROW_KINDS:
        raise ValueError(f"{path} holds no rows with fields. Give a file of one of the kinds {', '.join(ROW_KINDS)}.")
    options = ReadOptions(row=lambda row, where: json.dumps(dict(row), default=str))
    for document in FORMATS[kind].documents(Input.of(path), options):
        yield document.name, json.loads(document.text)


def read_records(
    path: Path, field: str, keep: Sequence[str], unit: Literal["file", "section", "paragraph", "line"]
) -> tuple[Iterator[Record], dict[str, Any]]:
    """Return the texts of a file of any format, and a description of the file.

    Blank lines of plain text are skipped. A row whose text is null or empty is kept, with an empty text.

    Args:
        path: the file.
        field: field of the text.
        keep: fields to carry, beside ``CARRIED``; only rows have fields.
        unit: extent of one document of plain text.

    Raises:
        ValueError: a file that is not of text, or an unreadable line.
    """
    reason = not_prose(path)
    if reason is not None:
        raise ValueError(f"--input {path} is {reason}. If it is plain text, rename it, for example to {path}.txt.")
    facts = path.stat()
    described = {"path": str(path), "bytes": facts.st_size, "changed": facts.st_mtime_ns}
    described |= {"field": field, "keep": list(keep), "unit": unit}
    return _records(path, field, keep, unit), described


def _records(
    path: Path, field: str, keep: Sequence[str], unit: Literal["file", "section", "paragraph", "line"]
) -> Iterator[Record]:
    from unmask.text.vector_files import Record

    kind = format_of_file(path) or "text"
    if kind in ROW_KINDS:
        for place, row in read_rows(path):
            yield _record(place, row, field, keep)
        return
    if keep:
        raise ValueError(f"--keep carries fields of rows, and {path} holds no rows with fields: leave --keep out.")
    for document in FORMATS[kind].documents(Input.of(path), ReadOptions(field, unit)):
        if kind != "text" or document.text.strip():
            yield Record(document.name, document.text)


def _record(place: str, row: Mapping[str, Any], field: str, keep: Sequence[str]) -> Record:
    from unmask.text.vector_files import Record

    for name in (field, *keep):
        if name not in row:
            raise ValueError(unknown_field(f"{place}:", name, row, "Choose the text with --field, others with --keep."))
    wanted = dict.fromkeys([*(name for name in CARRIED if name in row), *keep])
    return Record(place, as_text(row[field], field, place), {name: row[name] for name in wanted})


def standard_input_records() -> tuple[Iterator[Record], dict[str, Any]]:
    """Return the lines of standard input that are not blank, and a description of them."""
    from unmask.text.vector_files import Record

    texts = read_standard_input()
    described = {"lines": len(texts), "sha256": sha256("\n".join(texts).encode()).hexdigest()}
    return (Record(f"standard input:{number}", text) for number, text in enumerate(texts)), described
