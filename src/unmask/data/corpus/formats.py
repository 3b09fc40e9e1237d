"""File formats, one place for each: its suffixes, and how its documents are read.

To add a format, write a class with the three members of ``Format`` and put it into ``FORMATS``.
Folders, ``--input``, standard input and the guesses from a file's name follow from that table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unmask.data.corpus.readers import CHOOSE, as_text, unknown_field
from unmask.data.corpus.sections import Unit, pieces
from unmask.data.corpus.text_stream import COMPRESSED, Input, open_text
from unmask.data.document import Document


@dataclass(frozen=True)
class ReadOptions:
    """What one document is, and where its text stands.

    Attributes:
        field: field or column of formats that have several.
        unit: what one document of plain text is.
        advice: what to do about a field that is missing or holds no text.
    """

    field: str = "text"
    unit: Unit = "section"
    advice: str = CHOOSE


class Format(Protocol):
    """One kind of file.

    Attributes:
        suffixes: endings of its files, with the dot, in lower case.
        compressed: whether its files may also end in ``.gz``, ``.zst`` and the others of ``text_stream``.
    """

    suffixes: tuple[str, ...]
    compressed: bool

    def documents(self, source: Input, how: ReadOptions) -> Iterator[Document]:
        """Every document in order, blank ones too, never holding more than one. A fault names file and line or row."""
        ...


class Text:
    """Plain text. A document is the whole file, a paragraph, a line, or a section: an article where lines like
    `` = Title = `` begin articles, otherwise paragraphs gathered until they hold 4,096 characters."""

    suffixes: tuple[str, ...] = (".txt", ".text", ".md", ".rst")
    compressed = True

    def documents(self, source: Input, how: ReadOptions) -> Iterator[Document]:
        with open_text(source) as file:
            for line, piece in pieces(file, how.unit):
                yield Document(source.name if how.unit == "file" else f"{source.name}:{line}", piece.strip("\n"))


class JsonLines:
    r"""One JSON object a line, the text in a field. A line ends at ``\n`` alone; null is no document."""

    suffixes: tuple[str, ...] = (".jsonl", ".ndjson", ".json")
    compressed = True

    def documents(self, source: Input, how: ReadOptions) -> Iterator[Document]:
        with open_text(source, lines_end="at \\n") as file:
            for number, line in enumerate(_json_lines(file), start=1):
                if line.isspace():
                    continue
                row = _object(line, f"{source.place}, line {number},", how.field)
                if how.field not in row:
                    raise ValueError(unknown_field(f"{source.place}, line {number},", how.field, row, how.advice))
                if row[how.field] is not None:
                    text = as_text(row[how.field], how.field, f"{source.place}, line {number}", how.advice)
                    yield Document(f"{source.name}:{number}", text)


def _json_lines(file: Iterator[str]) -> Iterator[str]:
    r"""The lines of a file. A lone ``\r`` ends a line too, where the line is not one JSON value with it.

    A JSON string holds no control characters, so ``\r`` never stands inside a text.
    """
    for line in file:
        if "\r" not in line.rstrip("\r\n"):
            yield line
            continue
        try:
            json.loads(line)
            yield line
        except (ValueError, RecursionError):
            yield from (part + "\n" for part in line.rstrip("\n").split("\r"))


def _object(line: str, where: str, field: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where} is not valid JSON ({error.msg} at column {error.colno}). JSON lines hold one "
            f'whole object a line, like {{"{field}": "..."}}; a file that is one big array must be rewritten that way.'
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets nested as deeply
        raise ValueError(
            f"{where} cannot be read as JSON ({str(error).split(';')[0]}). Leave that line out."
        ) from error
    if not isinstance(row, dict):
        raise ValueError(
            f'{where} holds a {type(row).__name__}; JSON lines need an object like {{"{field}": "..."}} on each line.'
        )
    return row


class Parquet:
    """One document per row, from a column, a batch of rows in memory at a time; null is no document."""

    suffixes: tuple[str, ...] = (".parquet", ".pq")
    compressed = False

    def documents(self, source: Input, how: ReadOptions) -> Iterator[Document]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(source.path)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{source.place} is not a Parquet file, or it is damaged ({error}). Fetch or write it again."
            ) from error
        with file:
            columns = file.schema_arrow.names
            if how.field not in columns:
                raise ValueError(unknown_field(source.place, how.field, columns, how.advice))
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[how.field]):
                for value in batch.column(0).to_pylist():
                    if value is not None:
                        yield Document(
                            f"{source.name}:{number}",
                            as_text(value, how.field, f"{source.place}, row {number}", how.advice),
                        )
                    number += 1


FORMATS: dict[str, Format] = {"text": Text(), "jsonl": JsonLines(), "parquet": Parquet()}

# Files that plain text is not, by the ending of their names: never taken for prose unless that is asked for.
_TABLES = "a table, not prose: write its text column as JSON lines or Parquet"
_SEQUENCES = "biological sequences with headers, not prose: write one sequence a line"
_ARCHIVES = "an archive: unpack it into a folder and give the folder"
_LAYOUTS = "a formatted document: convert it to plain text"
_ARRAYS = "binary data: write its text as JSON lines or Parquet"
NOT_PROSE: dict[str, str] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".xls", ".xlsx", ".ods"), _TABLES),
    **dict.fromkeys((".fasta", ".fa", ".fas", ".fna", ".faa", ".ffn", ".fastq", ".fq", ".a2m", ".a3m", ".sto", ".stockholm", ".aln",
                     ".pdb", ".cif", ".gb", ".gbk", ".gff", ".gff3", ".gtf", ".vcf", ".sam", ".bam", ".bed"), _SEQUENCES),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".lz4", ".br", ".z"), _ARCHIVES),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".ppt", ".pptx"), _LAYOUTS),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".orc", ".avro", ".h5", ".hdf5", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth",
                     ".safetensors", ".tfrecord", ".db", ".sqlite", ".bin", ".png", ".jpg", ".jpeg", ".gif", ".mp3", ".wav"), _ARRAYS),
}  # fmt: skip


def suffix_of(path: Path) -> str:
    """The ending of a name with that of its compression: ``.jsonl.zst``; empty where there is none."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() + suffix if suffix in COMPRESSED else suffix


def format_of(path: Path) -> str | None:
    """The format that a file's name announces; None if it announces none."""
    return _BY_SUFFIX.get(suffix_of(path))


def not_prose(path: Path) -> str | None:
    """Why a file is not plain text, by its name; None if the name does not say so."""
    suffix = suffix_of(path)
    for end in COMPRESSED:
        suffix = suffix.removesuffix(end)
    return NOT_PROSE.get(suffix)


_BY_SUFFIX = {
    suffix + end: name
    for name, format in FORMATS.items()
    for suffix in format.suffixes
    for end in ("", *(COMPRESSED if format.compressed else ()))
}
