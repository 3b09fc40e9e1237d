"""File formats: one class for each, and the registry ``FORMATS`` of all of them.

A format is an object with the members of the protocol :class:`Format`, registered by :func:`register_format`.
Everything else follows from the registry: folders, ``--input``, the guess from a file name, error messages, and the
table in docs/formats.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from unmask.data.corpus.read_options import Inserts as Inserts
from unmask.data.corpus.read_options import ReadOptions as ReadOptions
from unmask.data.corpus.readers import as_text, unknown_field
from unmask.data.corpus.ready_ids import NumpyIds
from unmask.data.corpus.sections import pieces
from unmask.data.corpus.sequences import Fasta
from unmask.data.corpus.tables import Arrow, Parquet, SeparatedValues
from unmask.data.corpus.text_stream import COMPRESSED, Input, open_text
from unmask.data.document import Document
from unmask.data.traces.table import is_traces
from unmask.data.traces.trace_documents import read_traces


class Format(Protocol):
    """One file format.

    Attributes:
        description: what one document is, in one line, for the documentation.
        suffixes: file name endings, with the dot, in lower case.
        compressed: whether files may also end in ``.gz``, ``.zst`` and the other suffixes of ``text_stream``.

    Examples:
        >>> from unmask.data.corpus.formats import FORMATS
        >>> FORMATS["jsonl"].suffixes
        ('.jsonl', '.ndjson', '.json')
    """

    description: str
    suffixes: tuple[str, ...]
    compressed: bool

    def recognises(self, path: Path) -> bool:
        """Return whether the contents of a file with one of the suffixes are of this format, by its first bytes."""
        ...

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        """Yield every document in order, blank ones too, with bounded memory.

        Raises:
            ValueError: the file is damaged; the message names the file and the line or row.
        """
        ...


@runtime_checkable
class DivisibleFormat(Format, Protocol):
    """A format whose large files are read in parts, by several processes at once.

    Examples:
        >>> from unmask.data.corpus.formats import FORMATS, DivisibleFormat
        >>> [name for name, format in FORMATS.items() if isinstance(format, DivisibleFormat)]
        ['text', 'jsonl', 'parquet']
    """

    def divide(self, source: Input, options: ReadOptions, size: int) -> list[Input]:
        """Return inputs whose documents are together those of the file, in order, each of about ``size`` bytes or more."""
        ...


class Text:
    """Plain text. A document is the file, a paragraph, a line, or a section.

    A section is an article in files whose articles begin with a line like `` = Title = ``, otherwise paragraphs
    of 4,096 characters together.
    """

    description = "a file, section, paragraph or line of plain text"
    suffixes: tuple[str, ...] = (".txt", ".text", ".md", ".rst")
    compressed = True

    def recognises(self, path: Path) -> bool:
        return True

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        with open_text(source) as file:
            for line, piece in pieces(file, options.unit):
                yield Document(source.name if options.unit == "file" else f"{source.name}:{line}", piece.strip("\n"))

    def divide(self, source: Input, options: ReadOptions, size: int) -> list[Input]:
        return source.by_lines(size) if options.unit == "line" else [source]


class JsonLines:
    r"""One JSON object per line, the text in a field. Only ``\n`` ends a line; null yields no document."""

    description = "one JSON object per line, the text in a field"
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson", ".json")
    compressed = True

    def recognises(self, path: Path) -> bool:
        return True

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        for number, row in self.rows(source, options.field, options.example):
            if options.row is not None:
                text = options.row(row, f"{source.place}, line {number}")
                if text is not None:
                    yield Document(f"{source.name}:{number}", text)
                continue
            if options.field not in row:
                raise ValueError(unknown_field(f"{source.place}, line {number},", options.field, row, options.advice))
            if row[options.field] is not None:
                text = as_text(row[options.field], options.field, f"{source.place}, line {number}", options.advice)
                yield Document(f"{source.name}:{number}", text)

    def divide(self, source: Input, options: ReadOptions, size: int) -> list[Input]:
        return source.by_lines(size)

    def rows(self, source: Input, field: str, example: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each line, from 1, and its object.

        Args:
            source: the file.
            field: a field that error messages show in their example.
            example: the example itself, if it is not of this field.

        Raises:
            ValueError: a line that is no JSON object.
        """
        with open_text(source, lines_end="at \\n") as file:
            for number, line in enumerate(_json_lines(file), start=1):
                if not line.isspace():
                    example = example or f'{{"{field}": "..."}}'
                    yield number, _object(line, f"{source.place}, line {number},", example)


def _json_lines(file: Iterator[str]) -> Iterator[str]:
    r"""Yield the lines of a file. A lone ``\r`` also ends a line, unless the line with it is one JSON value.

    A JSON string holds no control characters, so ``\r`` never occurs inside a text.
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


def _object(line: str, where: str, example: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where} is not valid JSON ({error.msg} at column {error.colno}). Write one "
            f"complete object per line, like {example}; a file that is one JSON array must be rewritten."
        ) from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or brackets nested that deeply
        raise ValueError(f"{where} cannot be read as JSON ({str(error).split(';')[0]}). Remove that line.") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} holds a {type(row).__name__}; each line must be an object like {example}.")
    return row


class Traces:
    """Instruction traces: Parquet files with the columns of ``unmask.data.traces.table``."""

    description = "a function of a binary, on the side of the split that the file states"
    suffixes: tuple[str, ...] = (".parquet", ".pq")
    compressed = False

    def recognises(self, path: Path) -> bool:
        return is_traces(path)

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        return read_traces(source.path)


FORMATS: dict[str, Format] = {
    "text": Text(),
    "jsonl": JsonLines(),
    "csv": SeparatedValues((".csv",), None, "one row under a header, the text in a column"),
    "tsv": SeparatedValues((".tsv", ".tab"), "\t", "one row under a header, tab-separated, the text in a column"),
    "parquet": Parquet(),
    "arrow": Arrow(),
    "fasta": Fasta((".fasta", ".fa", ".fas", ".fna", ".faa", ".ffn"), False, "one record, named by its header"),
    "a3m": Fasta((".a3m", ".a2m"), True, "one aligned record; `inserts=drop` leaves out lower-case letters and dots"),
    "npy": NumpyIds(),
    "traces": Traces(),
}

OTHER_KINDS = {
    "builtin": "an article of a built-in corpus",
    "dataset": "a row of a Hugging Face dataset saved with `save_to_disk`, the text in a field",
    "hub": "a row of a dataset on the Hugging Face hub (owner/name), the text in a field",
}


def kinds() -> tuple[str, ...]:
    """Return the kinds of sources: the formats of files, and sources that are not files."""
    return (*FORMATS, *OTHER_KINDS)


def register_format(name: str, format: Format) -> None:
    """Add a file format to ``FORMATS``, so that every command and function of this process reads it.

    Files with one of its suffixes are then recognised by name; ``name:path`` selects the format for any path. If
    several formats share a suffix, a file belongs to the last registered one whose ``recognises`` returns True.

    Args:
        name: the prefix, such as ``csv`` in ``csv:table.csv``.
        format: an object with the members of :class:`Format`.

    Raises:
        ValueError: the name is taken or no word, or a suffix lacks its dot or is not in lower case.

    Examples:
        >>> from unmask.data.corpus.formats import FORMATS, register_format
        >>> from unmask.data.document import Document
        >>> class Fasta:
        ...     description = "a sequence, without its header"
        ...     suffixes = (".fasta",)
        ...     compressed = False
        ...     def recognises(self, path):
        ...         return True
        ...     def documents(self, source, options):
        ...         for number, record in enumerate(source.path.read_text().split(">")[1:]):
        ...             yield Document(f"{source.name}:{number}", "".join(record.splitlines()[1:]))
        >>> register_format("fasta", Fasta())
        >>> "fasta" in FORMATS
        True
        >>> del FORMATS["fasta"]
    """
    if name in kinds() or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"A format cannot be registered as {name!r}: choose a word in lower case other than {', '.join(kinds())}."
        )
    if wrong := [suffix for suffix in format.suffixes if suffix != suffix.lower() or not suffix.startswith(".")]:
        raise ValueError(
            f"The suffix {wrong[0]!r} of format {name!r} must be a dot and lower-case letters, such as '.csv'."
        )
    FORMATS[name] = format


def formats_table() -> str:
    """Return the Markdown table of all kinds of sources, as docs/formats.md shows it."""
    rows = ["| kind | files | compressed | one document is |", "|---|---|---|---|"]
    for name, format in FORMATS.items():
        suffixes = " ".join(f"`{suffix}`" for suffix in format.suffixes)
        rows.append(f"| `{name}` | {suffixes} | {'yes' if format.compressed else 'no'} | {format.description} |")
    rows += [f"| `{name}` | | | {description} |" for name, description in OTHER_KINDS.items()]
    return "\n".join(rows)


# Files that are not plain text, by suffix. They are read as text only with the explicit prefix `text:`.
_TABLES = "a table, not prose: write its text column as JSON lines or Parquet"
_SEQUENCES = "biological sequences with headers, not prose: write one sequence a line"
_ARCHIVES = "an archive: unpack it into a folder and pass the folder"
_LAYOUTS = "a formatted document: convert it to plain text"
_ARRAYS = "binary data: write its text as JSON lines or Parquet"
NOT_PROSE: dict[str, str] = {
    **dict.fromkeys((".xls", ".xlsx", ".ods"), _TABLES),
    **dict.fromkeys((".fastq", ".fq", ".sto", ".stockholm", ".aln",
                     ".pdb", ".cif", ".gb", ".gbk", ".gff", ".gff3", ".gtf", ".vcf", ".sam", ".bam", ".bed"), _SEQUENCES),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".lz4", ".br", ".z"), _ARCHIVES),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".ppt", ".pptx"), _LAYOUTS),
    **dict.fromkeys((".orc", ".avro", ".h5", ".hdf5", ".npz", ".pkl", ".pickle", ".pt", ".pth",
                     ".safetensors", ".tfrecord", ".db", ".sqlite", ".bin", ".png", ".jpg", ".jpeg", ".gif", ".mp3", ".wav"), _ARRAYS),
}  # fmt: skip


def suffix_of(path: Path) -> str:
    """Return the ending of a name with that of its compression: ``.jsonl.zst``; empty without one."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() + suffix if suffix in COMPRESSED else suffix


def has_suffix(path: Path, format: Format) -> bool:
    """Return whether a file name has one of the suffixes of a format, compressed or not."""
    suffix = path.suffix.lower()
    if suffix in COMPRESSED and format.compressed:
        suffix = Path(path.stem).suffix.lower()
    return suffix in format.suffixes


def format_of(path: Path) -> str | None:
    """Return the format that a file name denotes, without opening the file; None for an unknown suffix."""
    return next((name for name, format in FORMATS.items() if has_suffix(path, format)), None)


def format_of_file(path: Path) -> str | None:
    """Return the format of an existing file by its name and, where formats share a suffix, by its contents."""
    named = [name for name, format in FORMATS.items() if has_suffix(path, format)]
    return next((name for name in reversed(named) if FORMATS[name].recognises(path)), named[0] if named else None)


def not_prose(path: Path) -> str | None:
    """Return why a file is not plain text, judged by its name; None without such a reason."""
    suffix = suffix_of(path)
    for end in COMPRESSED:
        suffix = suffix.removesuffix(end)
    return None if format_of(path) is not None else NOT_PROSE.get(suffix)
