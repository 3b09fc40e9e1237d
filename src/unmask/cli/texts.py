"""The input texts of a command: a file (``--input``) or standard input."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmask.data.corpus.formats import FORMATS, JsonLines, ReadOptions, format_of, format_of_file, not_prose
from unmask.data.corpus.row_shapes import ROW_KINDS, WHAT_A_PROMPT_HOLDS, prompt_as_text
from unmask.data.corpus.sources import Source
from unmask.data.corpus.text_stream import Input
from unmask.data.document import Document


def read_documents(path: Path, field: str) -> list[Document]:
    """Read what :func:`read_texts` reads, with the place of each text as its name; a folder or a name is a source as for ``prepare``.

    Args:
        path: a file, a folder, a dataset, or the name of a built-in corpus.
        field: field of the text in JSON lines, tables and datasets.

    Raises:
        ValueError: no text, or an unreadable line.
    """
    if not path.is_file() and (path.is_dir() or format_of(path) is None):
        return list(stream_source(path, field))
    return _documents(path, field)


def stream_source(path: Path, field: str) -> Iterator[Document]:
    """Yield what :func:`read_documents` reads, one document at a time; errors as there, but for a file without text."""
    if not path.is_file() and (path.is_dir() or format_of(path) is None):
        return Source.parse(str(path), field=field, unit="line").documents()
    return stream_documents(path, field)


def read_texts(path: Path, field: str) -> list[str]:
    """Read the texts of a file with the reader of ``prepare``: its rows, or its lines for plain text.

    Blank lines and null rows are skipped; an empty string in a row is a text.

    Args:
        path: the file.
        field: field of the text in JSON lines and Parquet.

    Raises:
        ValueError: no text in the file, or an unreadable line.
    """
    return [document.text for document in _documents(path, field)]


def stream_documents(path: Path, field: str) -> Iterator[Document]:
    """Yield the texts of a file as :func:`read_texts` reads them, one at a time.

    Raises:
        ValueError: an unreadable line.
    """
    reason = not_prose(path)
    if reason is not None:
        raise ValueError(f"--input {path} is {reason}. If it is plain text, rename it, for example to {path}.txt.")
    kind = (format_of_file(path) if path.is_file() else format_of(path)) or "text"
    advice = f'Each row must have the field {{"{field}": "..."}}.'
    documents = FORMATS[kind].documents(Input.of(path), ReadOptions(field, "line", advice=advice))
    yield from (document for document in documents if kind != "text" or document.text.strip())


def _documents(path: Path, field: str) -> list[Document]:
    kept = list(stream_documents(path, field))
    if not kept:
        raise ValueError(
            f"{path} holds no text: write one text per line, or JSON lines with the field {field!r} in a file named *.jsonl."
        )
    return kept


def read_prompts(path: Path) -> list[str | list[dict[str, str]]]:
    """Read the prompts of a file as :func:`read_texts` does: texts, or the messages of chats.

    Rows of training data are prompts too: their answers are left out.

    Raises:
        ValueError: no prompt in the file, or an unreadable line.
    """
    if format_of(path) not in ROW_KINDS:
        return [*read_texts(path, "prompt")]
    rows = [prompt for _, prompt in stream_prompts(path)]
    if not rows:
        raise ValueError(f"{path} holds no prompt. {WHAT_A_PROMPT_HOLDS}")
    return rows


def stream_prompts(path: Path) -> Iterator[tuple[str, str | list[dict[str, str]]]]:
    """Yield the place of every prompt of a file, and what :func:`read_prompts` reads, one at a time.

    Raises:
        ValueError: an unreadable line.
    """
    kind = format_of(path)
    if kind not in ROW_KINDS:
        yield from ((document.name, document.text) for document in stream_documents(path, "prompt"))
        return
    for document in FORMATS[kind].documents(Input.of(path), ReadOptions("prompt", row=prompt_as_text)):
        row = json.loads(document.text)
        yield document.name, row["messages"] if "messages" in row else row["prompt"]


def read_hole_rows(path: Path) -> list[tuple[str, dict[str, Any]]] | None:
    """Read the rows of a file of JSON lines, each with its place for error messages; None for another kind of file.

    Rows whose ``text`` is null are skipped.

    Args:
        path: the file.

    Raises:
        ValueError: no rows in the file, or an unreadable line.
    """
    if format_of(path) != "jsonl":
        return None
    lines = JsonLines().rows(Input.of(path), "text")
    rows = [(f"{path}, line {number}", row) for number, row in lines if row.get("text", "") is not None]
    if not rows:
        raise ValueError(
            f'{path} holds no row: write one object per line, like {{"id": 1, "before": "…", "after": "…"}}.'
        )
    return rows


def read_standard_input() -> list[str]:
    """Read the lines of standard input that are not blank, with the reader of text files.

    Raises:
        ValueError: bytes that are not text.
    """
    stream = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
    documents = FORMATS["text"].documents(Input("standard input", "-", stream), ReadOptions(unit="line"))
    return [document.text for document in documents if document.text.strip()]


def shows_one_batch(count: int, size: int, shown: bool) -> None:
    """Check that ``--watch`` and ``--trace`` have a single batch to show.

    Raises:
        ValueError: more texts than one batch.
    """
    if shown and count > size > 0:
        raise ValueError(
            f"--watch and --trace show one batch, and {count} texts at --batch-size {size} are several batches. Pass fewer texts, or "
            "a larger --batch-size."
        )
