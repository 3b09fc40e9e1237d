"""Texts a command works on: arguments, a file (``--input``), or standard input; decoded a batch at a time."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from unmask.data.corpus.formats import FORMATS, ReadOptions, format_of, not_prose
from unmask.data.corpus.text_stream import Input


def read_texts(path: Path, field: str) -> list[str]:
    """The texts of a file, by the reader of ``prepare``: the rows of a format that has some, otherwise one text a line.

    Blank lines and rows of null are skipped; an empty string is a text.

    Raises:
        ValueError: no text in the file, or a line that cannot be read.
    """
    reason = not_prose(path)
    if reason is not None:
        raise ValueError(f"--input {path} is {reason}. Plain text is read under another name, such as {path}.txt.")
    kind = format_of(path) or "text"
    advice = f'Each row needs {{"{field}": "..."}}.'
    documents = FORMATS[kind].documents(Input.of(path), ReadOptions(field, "line", advice=advice))
    texts = [document.text for document in documents if kind != "text" or document.text.strip()]
    if not texts:
        raise ValueError(
            f"{path} holds no text: give one per line, or JSON lines with the field {field!r} in a file called *.jsonl."
        )
    return texts


def read_standard_input() -> list[str]:
    """The lines of standard input that are not blank, by the same reader as a text file's.

    Raises:
        ValueError: bytes that are no text.
    """
    stream = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
    documents = FORMATS["text"].documents(Input("standard input", "-", stream), ReadOptions(unit="line"))
    return [document.text for document in documents if document.text.strip()]


def shows_one_batch(count: int, size: int, shown: bool) -> None:
    """Refuse several batches where only one can be shown.

    Raises:
        ValueError: rows of several batches under ``--watch`` or ``--trace``.
    """
    if shown and count > size > 0:
        raise ValueError(
            f"--watch and --trace show one batch, and {count} rows at --batch-size {size} are several. Give fewer texts or a larger --batch-size."
        )
