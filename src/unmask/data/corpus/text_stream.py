"""Bytes to text, in one pass: decompression by suffix, byte-order marks, line ends, and faults with their place.

    .gz .bz2 .xz .lzma .zst     decompressed; several members or frames in a row are read whole
    byte-order mark             of UTF-8 skipped; UTF-16 and UTF-32 are decoded by theirs
    anything else               UTF-8

An input need not be seekable: a pipe reads like a file.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

CHUNK = 2**16  # bytes decoded at a time


def _open_zstd(path: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".lzma": lzma.open, ".zst": _open_zstd, ".zstd": _open_zstd,
}  # fmt: skip
COMPRESSED = tuple(_OPENERS)
_MAGIC = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
    b"PAR1": ".parquet",
}
_MARKS = (  # the longer ones first: a mark of UTF-32 begins like one of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """A file, or a stream that is open already, such as standard input.

    Attributes:
        place: what errors call it: the path as it was written, or ``standard input``.
        name: what documents call it.
        stream: the open stream; None opens ``place``.
    """

    place: str
    name: str
    stream: BinaryIO | None = None

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> Input:
        return cls(str(path), path.name if name is None else name)

    @property
    def path(self) -> Path:
        return Path(self.place)

    @contextmanager
    def binary(self) -> Iterator[Any]:
        """The bytes, decompressed; a stream that was open stays open."""
        if self.stream is not None:
            yield self.stream
            return
        opener: Any = _OPENERS.get(self.path.suffix.lower())
        with open(self.path, "rb") if opener is None else opener(self.path) as file:
            yield file


class _Counted(io.BufferedIOBase):
    """Counts bytes and line ends on their way to the decoder, so that a bad byte has a line and an offset."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.bytes = self.lines = 0
        self.line_start = self.line_start_before = (
            0  # offsets: of the last line, and of the last line before the last chunk
        )
        self.head = b""
        while len(self.head) < 4 and (data := self._fetch(CHUNK)):  # a pipe may give less than a byte-order mark
            self.head += data
        self._ahead = self.head

    def _fetch(self, size: int) -> bytes:
        """One chunk; only a file that stands for all that is left is read to its end."""
        if size < 0:
            return bytes(self.file.read())
        return bytes(self.file.read1(size) if hasattr(self.file, "read1") else self.file.read(size))

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return self._count(ahead + self._fetch(-1) if size is None or size < 0 else ahead or self._fetch(size))

    read1 = read

    def _count(self, data: bytes) -> bytes:
        self.line_start_before = self.line_start
        last = data.rfind(b"\n")
        if last >= 0:
            self.line_start = self.bytes + last + 1
            self.lines += data.count(b"\n")
        self.bytes += len(data)
        return data

    def locate(self, error: UnicodeDecodeError) -> str:
        """Line, column and offset of a bad byte. What the decoder held when it failed ends with the last byte read."""
        held = error.object
        offset = self.bytes - len(held) + error.start
        if error.encoding != "utf-8":
            return f"byte 0x{held[error.start]:02x} at offset {offset}"
        before = held.rfind(b"\n", 0, error.start)
        start = self.bytes - len(held) + before + 1 if before >= 0 else self.line_start_before
        line = self.lines - held.count(b"\n", error.start) + 1
        return f"line {line}, byte 0x{held[error.start]:02x} at column {offset - start + 1}, offset {offset}"


@contextmanager
def open_text(source: Input, *, lines_end: Literal["anywhere", "at \\n"] = "anywhere") -> Iterator[io.TextIOWrapper]:
    r"""Decode an input; any damage is a ``ValueError`` that says where it is and what to type.

    Args:
        lines_end: ``"anywhere"`` takes ``\n``, ``\r\n`` and ``\r`` for line ends and makes each of them ``\n``;
            with ``"at \n"`` a line ends there alone and no character is changed.
    """
    try:
        with source.binary() as file:
            counted = _Counted(file)
            encoding = next((name for mark, name in _MARKS if counted.head.startswith(mark)), "utf-8")
            compressed = counted.head.startswith(tuple(_MAGIC))
            if encoding == "utf-8" and not compressed and counted.head.count(0) * 4 >= len(counted.head) > 0:
                raise ValueError(_explain_zeros(source))
            text = io.TextIOWrapper(
                cast(BinaryIO, counted), encoding=encoding, newline=None if lines_end == "anywhere" else "\n"
            )
            text._CHUNK_SIZE = CHUNK  # type: ignore[attr-defined]
            try:
                yield text
            except UnicodeDecodeError as error:
                raise ValueError(_explain_bytes(source, encoding, counted.locate(error), counted.head)) from error
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(_explain_damage(source, error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(_explain_damage(source, error)) from error


def _explain_damage(source: Input, error: Exception) -> str:
    if "too much memory" in str(error):  # zstd --long=28 and more
        return f"{source.place} was compressed with a larger window than can be read. Compress it again: `zstd -d` and `zstd --long=27`."
    return (
        f"{source.place} cannot be decompressed ({str(error).rstrip('.')}): it is damaged or cut off. Fetch it again, or rename it if "
        "it is not compressed."
    )


def _explain_zeros(source: Input) -> str:
    return (
        f"{source.place} is not UTF-8 text (line 1): it holds zero bytes, as UTF-16 without a byte-order mark and files of figures do. If "
        f"it is text, convert it: `iconv -f utf-16le -t utf-8 {shlex.quote(source.name)} > converted.txt`; otherwise leave it out."
    )


def _explain_bytes(source: Input, encoding: str, where: str, head: bytes) -> str:
    if encoding not in ("utf-8", "utf-8-sig"):
        return f"{source.place} begins with the byte-order mark of {encoding.upper()} and cannot be decoded as such ({where}). Convert it to UTF-8."
    begins = next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), None)
    if begins is not None:
        return f"{source.place} is not UTF-8 text ({where}): it begins like a {begins} file. Name it so, or unpack it."
    fresh = shlex.quote(f"{Path(source.name).stem}.utf8{Path(source.name).suffix}")
    return (
        f"{source.place} is not UTF-8 text ({where}). If it is text in another encoding, convert it: "
        f"`iconv -f latin1 -t utf-8 {shlex.quote(source.name)} > {fresh}`; if it is not text, leave it out of the corpus."
    )
