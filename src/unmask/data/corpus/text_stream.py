"""Decode a file or stream to text in one pass: decompression, byte-order marks, line ends, and the position of faults.

    .gz .bz2 .xz .lzma .zst     decompressed, including files of several members or frames
    byte-order mark             skipped for UTF-8; selects UTF-16 and UTF-32
    anything else               UTF-8

Inputs need not be seekable, so pipes work too.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
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
_MARKS = (  # longer marks first, as a mark of UTF-32 begins like one of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """A file, or an open stream such as standard input.

    Attributes:
        place: the name in error messages: the path as it was written, or ``standard input``.
        name: the name in document names.
        stream: the open stream; None opens ``path``.
        file: the file, where ``place`` says more than its path.
        extent: the part of the file to read: bytes for formats of lines, row groups for Parquet; None = all of it.
    """

    place: str
    name: str
    stream: BinaryIO | None = None
    file: Path | None = None
    extent: tuple[int, int] | None = None

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> Input:
        """Return the input of a file, named by default after the file."""
        return cls(str(path), path.name if name is None else name)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return Path(self.place) if self.file is None else self.file

    def by_lines(self, size: int) -> list[Input]:
        r"""Divide an uncompressed UTF-8 file into parts of about ``size`` bytes that end with ``\n``; any other file is one part."""
        bounds = _line_bounds(self.path, size)
        return [self] if len(bounds) <= 2 else [self._bytes(*extent) for extent in itertools.pairwise(bounds)]

    def _bytes(self, start: int, stop: int) -> Input:
        place, name = f"{self.place} (from byte {start})", f"{self.name}@{start}"
        return Input(place, name, file=self.path, extent=(start, stop))

    @contextmanager
    def binary(self) -> Iterator[Any]:
        """Open the decompressed bytes; a given stream is not closed."""
        if self.stream is not None:
            yield self.stream
            return
        if self.extent is not None:
            with io.BufferedReader(_FileRange(self.path, *self.extent), CHUNK) as part:
                yield part
            return
        opener: Any = _OPENERS.get(self.path.suffix.lower())
        with open(self.path, "rb") if opener is None else opener(self.path) as file:
            yield file


class _FileRange(io.RawIOBase):
    """Bytes ``start..stop-1`` of a file."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by ``close``)
        self.file.seek(start)
        self.left = stop - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self.file.readinto(memoryview(buffer)[: self.left])
        self.left -= read
        return read

    def close(self) -> None:
        self.file.close()
        super().close()


def _line_bounds(path: Path, size: int) -> list[int]:
    """Return offsets that divide a file after line ends, about ``size`` bytes apart: 0, …, the size of the file."""
    total = path.stat().st_size
    bounds = [0]
    if path.suffix.lower() in COMPRESSED:
        return [0, total]
    with open(path, "rb") as file:
        if file.read(4).startswith(tuple(mark for mark, name in _MARKS if name != "utf-8-sig")):
            return [0, total]  # a line end has several bytes
        while bounds[-1] + size < total:
            file.seek(bounds[-1] + size - 1)
            while (data := file.readline(CHUNK)) and not data.endswith(b"\n"):
                pass
            bounds.append(file.tell())
    return bounds if bounds[-1] == total else [*bounds, total]


class _Counted(io.BufferedIOBase):
    """Count bytes and line ends before the decoder, so that the line and offset of an invalid byte are known."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.bytes = self.lines = 0
        self.line_start = self.line_start_before = 0  # offsets of the last line, now and before the last chunk
        self.head = b""
        while len(self.head) < 4 and (data := self._fetch(CHUNK)):  # a pipe may return less than a byte-order mark
            self.head += data
        self._ahead = self.head

    def _fetch(self, size: int) -> bytes:
        """Read one chunk, or all remaining bytes for a negative size."""
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
        """Return line, column and offset of an invalid byte; the decoder's buffer ends with the last byte read."""
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
    r"""Open an input as text.

    Args:
        source: the file or stream.
        lines_end: ``"anywhere"`` converts the line ends ``\n``, ``\r\n`` and ``\r`` to ``\n``. With ``"at \n"``, only
            ``\n`` ends a line and no character is changed.

    Raises:
        ValueError: the file is damaged or not text; the message states the position and a remedy.
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
            text._CHUNK_SIZE = CHUNK  # type: ignore[attr-defined]  # the only way to set the size of a chunk
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
        return (
            f"{source.place} was compressed with a larger window than can be read. Compress it again: `zstd -d` and "
            "`zstd --long=27`."
        )
    return (
        f"{source.place} cannot be decompressed ({str(error).rstrip('.')}): it is damaged or cut off. Download it "
        "again, or rename it if it is not compressed."
    )


def _explain_zeros(source: Input) -> str:
    return (
        f"{source.place} is not UTF-8 text (line 1): it holds zero bytes, like UTF-16 without a byte-order mark and "
        f"binary files. If it is text, convert it: `iconv -f utf-16le -t utf-8 {shlex.quote(source.name)} > "
        "converted.txt`; otherwise leave it out."
    )


def _explain_bytes(source: Input, encoding: str, where: str, head: bytes) -> str:
    if encoding not in ("utf-8", "utf-8-sig"):
        return (
            f"{source.place} begins with the byte-order mark of {encoding.upper()} but cannot be decoded as such "
            f"({where}). Convert it to UTF-8."
        )
    actual = next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), None)
    if actual is not None:
        return f"{source.place} is not UTF-8 text ({where}): it begins like a {actual} file. Rename it, or unpack it."
    converted = shlex.quote(f"{Path(source.name).stem}.utf8{Path(source.name).suffix}")
    return (
        f"{source.place} is not UTF-8 text ({where}). If it is text in another encoding, convert it: "
        f"`iconv -f latin1 -t utf-8 {shlex.quote(source.name)} > {converted}`; if it is not text, leave it out of the "
        "corpus."
    )
