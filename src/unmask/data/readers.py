"""From files to documents: one small generator per format, none of which ever holds a corpus.

    text      .txt .md .rst or anything else that is UTF-8, also .gz and .xz
    jsonl     one JSON object a line, the text in a field
    parquet   read row group by row group, the text in a column
    dataset   a Hugging Face dataset, saved to disk or streamed from the hub
    traces    instruction traces that ``unmask disassemble`` wrote (also Parquet), or a built-in corpus of them

Line ends become ``\\n``. Documents with nothing but white space are skipped by whoever calls these.
"""

from __future__ import annotations

import difflib
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

Unit = Literal["file", "section", "paragraph", "line"]
UNITS: tuple[str, ...] = get_args(Unit)

SECTION_CHARACTERS = 4096  # a section ends at the first blank line after this many
LARGEST_SECTION = 2**20  # characters; beyond it a section ends at the next line, so memory stays bounded
_TITLE = re.compile(r" ?= [^=].* = ?\n?")
_COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Document:
    """One text that is kept or held out as a whole. ``name`` says where it came from; ``held_out``, in a corpus that is
    divided already, on which side it is."""

    name: str
    text: str
    held_out: bool | None = None


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when the name of something known is spelled much like that of ``word``, otherwise nothing.

    A name is what follows the last ``/`` or ``:``, so that files of one folder are not alike for their folder.
    """
    names = {re.split("[/:]", each)[-1]: each for each in known}
    close = difflib.get_close_matches(re.split("[/:]", word)[-1], names, n=1, cutoff=0.7)
    return f" Did you mean '{names[close[0]]}'?" if close else ""


def _binary(path: Path) -> IO[bytes]:
    opener: Any = _COMPRESSED.get(path.suffix.lower(), open)
    return cast(IO[bytes], opener(path, "rb"))


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Decode a possibly compressed file as UTF-8; damage becomes a ``ValueError`` that says where it is."""
    try:
        with _binary(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise ValueError(_explain_bytes(path)) from error
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be decompressed ({error}): it is damaged or cut off. Fetch it again, or rename it if it is not compressed."
        ) from error


def _explain_bytes(path: Path) -> str:
    with _binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {number}, byte 0x{line[error.start]:02x} at column {error.start + 1}"
                break
        else:
            where = "somewhere"
    return (
        f"{path} is not UTF-8 text ({where}). If it is text in another encoding, convert it: "
        f"`iconv -f latin1 -t utf-8 {path.name} > {path.stem}.utf8.txt`; if it is not text, leave it out of the corpus."
    )


def _sections(file: io.TextIOWrapper) -> Iterator[str]:
    """Articles where the file has wiki titles (`` = Title = ``), else paragraphs gathered to a useful length."""
    lines: list[str] = []
    length, titled = 0, False
    for line in iter(lambda: file.readline(LARGEST_SECTION), ""):
        title = _TITLE.fullmatch(line) is not None
        long_enough = not titled and length >= SECTION_CHARACTERS and not line.strip()
        if lines and (title or long_enough or length >= LARGEST_SECTION):
            yield "".join(lines)
            lines, length = [], 0
        titled = titled or title
        lines.append(line)
        length += len(line)
    yield "".join(lines)


def _paragraphs(file: io.TextIOWrapper) -> Iterator[str]:
    lines: list[str] = []
    for line in file:
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines)
            lines = []
    yield "".join(lines)


def read_text(path: Path, name: str, unit: Unit) -> Iterator[Document]:
    """The documents of one text file.

    Args:
        unit: ``"file"`` (the whole file), ``"paragraph"`` (between blank lines), ``"line"``, or ``"section"``:
            an article where lines like `` = Title = `` begin articles, otherwise paragraphs gathered until they
            hold 4,096 characters.
    """
    with _open_text(path) as file:
        if unit == "file":
            yield Document(name, file.read().strip("\n"))
            return
        pieces: Iterator[str] = file if unit == "line" else _paragraphs(file) if unit == "paragraph" else _sections(file)
        for number, piece in enumerate(pieces):
            yield Document(f"{name}#{number}", piece.strip("\n"))


def read_jsonl(path: Path, name: str, field: str) -> Iterator[Document]:
    """One document per JSON object, from ``field``; null is an empty document."""
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}, is not valid JSON ({error.msg} at column {error.colno}). JSON lines hold one "
                    'whole object a line, like {"text": "..."}; a file that is one big array must be rewritten that way.'
                ) from error
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path}, line {number}, holds a {type(row).__name__}; JSON lines need an object like "
                    f'{{"{field}": "..."}} on each line.'
                )
            if field not in row:
                raise ValueError(unknown_field(f"{path}, line {number},", field, row))
            yield Document(f"{name}:{number}", as_text(row[field], field, f"{path}, line {number}"))


def read_parquet(path: Path, name: str, field: str) -> Iterator[Document]:
    """One document per row, from column ``field``, a batch of rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file, or it is damaged ({error}). Fetch or write it again.") from error
    with file:
        columns = file.schema_arrow.names
        if field not in columns:
            raise ValueError(unknown_field(str(path), field, columns))
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=[field]):
            for value in batch.column(0).to_pylist():
                yield Document(f"{name}:{number}", as_text(value, field, f"{path}, row {number}"))
                number += 1


def read_traces(path: str | Path) -> Iterator[Document]:
    """The traces of a file that ``unmask disassemble`` wrote, each on the side of the split that its binary is on."""
    from unmask.data.traces import table

    for row in table.read_traces(path, ("binary", "name", "disassembly")):
        yield Document(f"{row['binary']}:{row['name']}", row["disassembly"], held_out=row["split"] == "test")


def built_in_traces(name: str) -> Iterator[Document]:
    """The traces of a built-in corpus, ``wheels`` or ``python``."""
    from unmask.data.traces.corpus import built_in_rows

    for row in built_in_rows(name):
        yield Document(f"{row.binary}:{row.name}", row.disassembly, held_out=row.split == "test")


def read_dataset(path: str, field: str, split: str, subset: str | None, *, saved: bool) -> Iterator[Document]:
    """The rows of a Hugging Face dataset: ``saved`` by ``save_to_disk``, otherwise streamed from the hub."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"Reading the Hugging Face dataset '{path}' needs the `datasets` library, which is not installed. "
            "Type: pip install 'unmask[hub]'"
        ) from error

    try:
        if saved:
            rows = datasets.load_from_disk(path)
        else:
            rows = datasets.load_dataset(path, subset, split=split, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"The dataset '{path}' could not be opened ({str(error).rstrip('.')}). "
            + ("Give a folder that save_to_disk wrote. " if saved else
               "It is not a file or folder here, so it was looked up on the Hugging Face hub: check its spelling and the network. ")
            + "A built-in corpus needs neither: try `python-docs`."
        ) from error  # fmt: skip
    if isinstance(rows, dict):
        if split not in rows:
            raise ValueError(f"The dataset '{path}' has no split '{split}'; it has {', '.join(sorted(rows))}. Choose one with split=….")
        rows = rows[split]
    for number, row in enumerate(rows):
        if field not in row:
            raise ValueError(unknown_field(f"The dataset '{path}'", field, row))
        yield Document(f"{split}:{number}", as_text(row[field], field, f"'{path}', row {number}"))


def unknown_field(where: str, field: str, known: Iterable[str]) -> str:
    """The message for a field that is not there: the nearest one, then all of them."""
    names = [str(name) for name in known]
    return f"{where} has no field '{field}'.{nearest(field, names)} It has: {', '.join(names)}. Choose one with field=…."


def as_text(value: Any, field: str, where: str) -> str:
    """Check that a field holds text. Null is empty; half of a surrogate pair becomes U+FFFD, as UTF-8 has no room for it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: field '{field}' holds {type(value).__name__}, and text was expected. Choose another with field=….")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value.replace("\r\n", "\n")
