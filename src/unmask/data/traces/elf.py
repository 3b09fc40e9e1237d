"""ELF files: locate the functions and the bytes of each.

    with .eh_frame        it holds the ranges of functions; symbols only name them. Stripped binaries keep it, so
                          stripping changes no trace. Exported symbols, which stripping keeps too, add functions it does not
                          cover.
    without, or if it     symbols and their sizes hold the ranges
    covers less than half

Segments are read first: ``.eh_frame_hdr`` locates the table, the dynamic table locates exported symbols. Sections add
only ``.symtab``, and ``.eh_frame`` without a header. Linker stubs (``.plt``) are no functions, recognised by section
name or by shape. Files are untrusted: any fault is an ``Unreadable`` with a short reason, so that reasons can be
counted. All results are slices of the file's bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.data.traces.dynamic import dynamic_symbols
from unmask.data.traces.frames import frame_ranges, frame_table_address, last_listed_frame, possible_tables
from unmask.data.traces.headers import (
    PF_W,
    PF_X,
    PT_GNU_EH_FRAME,
    SHT_DYNSYM,
    SHT_NOBITS,
    SHT_SYMTAB,
    Headers,
    holds,
    is_code,
    read_headers,
)  # fmt: skip
from unmask.data.traces.stubs import is_stub

LONGEST_FUNCTION = 2**18  # bytes
_COVERED_ENOUGH = 0.5
_STUB = "linker stubs"
_MACHINES = {3: "x86", 62: "x86-64", 183: "aarch64"}  # EM_386, EM_X86_64, EM_AARCH64
_OBJECT, _PROGRAM, _LIBRARY = 1, 2, 3  # ET_REL, ET_EXEC, ET_DYN
_FUNCTION_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_SYMBOL = {
    True: np.dtype(
        [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
    ),
    False: np.dtype(
        [("name", "<u4"), ("value", "<u4"), ("size", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2")]
    ),
}


class Unreadable(Exception):
    """A file that cannot be disassembled; the message is the reason in a few words."""


class Function(NamedTuple):
    """A function: its name (``f_401000`` if unknown), its first address, and its bytes."""

    name: str
    address: int
    code: bytes


@dataclass(frozen=True)
class Binary:
    """The functions of one file.

    Attributes:
        architecture: ``x86``, ``x86-64`` or ``aarch64``.
        functions: by address, without overlaps.
        image: address ranges of the memory image if it is linked for a fixed address, otherwise empty.
        left_out: numbers of other functions, by reason.
    """

    architecture: str
    functions: list[Function]
    image: tuple[tuple[int, int], ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)


def read_binary(data: bytes) -> Binary:
    """Locate the functions of an ELF file.

    Args:
        data: contents of the file.

    Raises:
        Unreadable: the file is not ELF, damaged, not linked, of another architecture, or without functions.
    """
    if data[:4] != b"\x7fELF":
        raise Unreadable("not an ELF file")
    try:
        headers = read_headers(data)
        architecture = _MACHINES.get(headers.machine)
        if architecture is None or not headers.little:
            raise Unreadable("of another architecture")
        if headers.kind not in (_PROGRAM, _LIBRARY):
            raise Unreadable(
                "an object file that is not linked" if headers.kind == _OBJECT else "neither a program nor a library"
            )
        layout = _Layout(headers, data, architecture)
        left_out: Counter[str] = Counter()
        functions = layout.functions(layout.function_ranges(), left_out)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # a hostile file can raise anything
        raise Unreadable("cut off or damaged") from error
    if not functions:
        raise Unreadable("no function found")
    image = tuple((s.address, s.address + s.memory) for s in headers.loaded) if headers.kind == _PROGRAM else ()
    return Binary(architecture, functions, image, left_out)


class _Layout:
    """The segments, sections and symbols of one file, and the bytes at its addresses."""

    def __init__(self, headers: Headers, data: bytes, architecture: str) -> None:
        self.data, self.wide, self.architecture = data, headers.wide, architecture
        self.segments, self.sections = headers.loaded, headers.sections
        self.frame_header = next((s for s in headers.segments if s.kind == PT_GNU_EH_FRAME), None)
        self.code = [s for s in self.sections if is_code(s)]
        self._dynamic = dynamic_symbols(headers, self.bytes_at)

    def bytes_at(self, address: int, size: int, executable: bool = False) -> bytes:
        """Return the bytes loaded at an address; fewer, or none, outside the segments."""
        for segment in self.segments:
            into = address - segment.address
            if 0 <= into < segment.size and (segment.flags & PF_X or not executable):
                begin = segment.offset + into
                return self.data[begin : begin + min(size, segment.size - into)]
        return b""

    def is_data(self, address: int) -> bool:
        """Return whether an address is in writable, non-executable memory."""
        return any(0 <= address - s.address < s.memory and s.flags & (PF_W | PF_X) == PF_W for s in self.segments)

    def function_ranges(self) -> list[tuple[int, int]]:
        """Return ``(begin, length)`` by address; ranges may overlap or lie outside the code."""
        frames = sorted(set(self._frames()))
        code_size = sum(section.size for section in self.code)
        covered = _covered(frames)
        tables = [SHT_DYNSYM] if covered and covered >= _COVERED_ENOUGH * code_size else [SHT_DYNSYM, SHT_SYMTAB]
        symbols = {r for table in tables for r in self._symbol_ranges(table) if r[1] > 0}
        return _outside(frames, symbols)

    def _frames(self) -> list[tuple[int, int]]:
        """Return the ranges in ``.eh_frame``, located by its header, by its section, or by its contents."""
        return self._frames_by_header() or self._frames_by_section() or self._frames_by_contents()

    def _frames_by_header(self) -> list[tuple[int, int]]:
        if self.frame_header is None:
            return []
        header = self.bytes_at(self.frame_header.address, self.frame_header.size)
        address = frame_table_address(header, self.frame_header.address, self.wide)
        if address is None:
            return []
        end = last_listed_frame(header, self.frame_header.address)
        table = self.bytes_at(address, len(self.data))
        return list(frame_ranges(table, address, self.wide, None if end is None else end - address))

    def _frames_by_section(self) -> list[tuple[int, int]]:
        section = next((s for s in self.sections if s.name == ".eh_frame" and s.kind != SHT_NOBITS), None)
        if section is None or not any(holds(segment, section) for segment in self.segments):
            return []
        return list(frame_ranges(self.data[section.offset : section.offset + section.size], section.address, self.wide))

    def _frames_by_contents(self) -> list[tuple[int, int]]:
        """Return the first table whose every range is code; static programs have no header for it."""
        for segment in self.segments:
            held = self.bytes_at(segment.address, segment.size)
            for begin in possible_tables(held):
                ranges = list(frame_ranges(held[begin:], segment.address + begin, self.wide))
                if ranges and all(self.bytes_at(at, 1, executable=True) for at, _ in ranges):
                    return ranges
        return []

    def _symbols(self, kind: int) -> tuple[NDArray[Any], bytes] | None:
        """Return the defined function symbols of one table, and the bytes of its strings."""
        if kind == SHT_DYNSYM and self._dynamic is not None:
            raw, strings = self._dynamic
            return _function_symbols(raw, self.wide), strings
        for section in self.sections:
            if section.kind == kind and section.link < len(self.sections):
                raw = self.data[section.offset : section.offset + section.size]
                held = self.sections[section.link]
                return _function_symbols(raw, self.wide), self.data[held.offset : held.offset + held.size]
        return None

    def _symbol_ranges(self, kind: int) -> list[tuple[int, int]]:
        symbols = self._symbols(kind)
        if symbols is None:
            return []
        return list(zip(symbols[0]["value"].tolist(), symbols[0]["size"].tolist(), strict=True))

    def _names(self, functions: set[int]) -> dict[int, str]:
        """Return the names of functions by address: global before local names, then the alphabetically first."""
        best: dict[int, tuple[bool, str]] = {}
        addresses = np.array(sorted(functions), dtype=np.uint64)
        for kind in (SHT_SYMTAB, SHT_DYNSYM):
            symbols = self._symbols(kind)
            if symbols is None:
                continue
            table, strings = symbols
            table = table[np.isin(table["value"], addresses)]
            for address, offset, info in zip(
                table["value"].tolist(), table["name"].tolist(), table["info"].tolist(), strict=True
            ):
                if offset < len(strings):
                    end = strings.find(b"\0", offset, offset + 4096)
                    name = strings[offset : end if end >= 0 else offset + 4096].decode("utf-8", "replace")
                    if name:
                        candidate = (info >> 4 == 0, name)
                        best[address] = min(best.get(address, candidate), candidate)
        return {address: name for address, (_, name) in best.items()}

    def functions(self, ranges: list[tuple[int, int]], left_out: Counter[str]) -> list[Function]:
        """Return the code in these ranges, and count the others by reason in ``left_out``."""
        stubs = [(s.address, s.address + s.size) for s in self.code if s.name.startswith(".plt")]
        taken = []
        last_end = 0
        for begin, length in ranges:
            if any(first <= begin < end for first, end in stubs):
                left_out[_STUB] += 1
            elif length > LONGEST_FUNCTION:
                left_out[f"longer than {LONGEST_FUNCTION // 1024} KiB"] += 1
            elif begin < last_end:
                left_out["overlaps another"] += 1
            elif length == 0 or len(code := self.bytes_at(begin, length, executable=True)) < length:
                left_out["outside the code"] += 1
            elif is_stub(code, begin, self.architecture, self.is_data):
                left_out[_STUB] += 1
            else:
                taken.append((begin, code))
                last_end = begin + length
        names = self._names({begin for begin, _ in taken})
        return [Function(names.get(begin, f"f_{begin:x}"), begin, code) for begin, code in taken]


def _function_symbols(raw: bytes, wide: bool) -> NDArray[Any]:
    dtype = _SYMBOL[wide]
    table = np.frombuffer(raw, dtype, count=len(raw) // dtype.itemsize)
    functions: NDArray[Any] = table[np.isin(table["info"] & 0xF, _FUNCTION_TYPES) & (table["section"] != 0)]
    return functions


def _covered(ranges: list[tuple[int, int]]) -> int:
    """Count the bytes in sorted ``(begin, length)`` ranges, each once."""
    total = end = 0
    for begin, length in ranges:
        total += max(0, begin + length - max(begin, end))
        end = max(end, begin + length)
    return total


def _outside(frames: list[tuple[int, int]], symbols: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the frames and the symbols that begin outside them, the longest at each address, sorted."""
    longest: dict[int, int] = {}
    for begin, length in symbols:
        longest[begin] = max(length, longest.get(begin, 0))
    free = []
    number = end = 0
    for begin in sorted(longest):
        while number < len(frames) and frames[number][0] <= begin:
            end = max(end, sum(frames[number]))
            number += 1
        if begin >= end:
            free.append((begin, longest[begin]))
    return sorted([*frames, *free])
