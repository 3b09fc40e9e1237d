"""ELF files: which functions they hold, and the bytes of each.

    with .eh_frame    it says where functions begin and end; symbols only give their names. A stripped binary keeps it, so
                      stripping changes no trace. Exported symbols, which stripping keeps too, add what it does not cover.
    without, or       the symbols say it, with their sizes
    with a thin one   (less than half of the code)

Stubs of the linker (``.plt``) are no functions. Files come from anywhere: whatever is wrong with one is an ``Unreadable``
with a reason of a few words, so that reasons can be counted. Everything read is a slice of the file's own bytes.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from unmask.data.traces.frames import frame_ranges, frame_table_address

LONGEST_FUNCTION = 2**18  # bytes
_MOST_HEADERS = 2**14  # sections or segments; real files have a few dozen
_COVERED_ENOUGH = 0.5
_MACHINES = {"EM_386": "x86", "EM_X86_64": "x86-64", "EM_AARCH64": "aarch64"}
_EXECUTABLE, _ALLOCATED = 0x4, 0x2  # SHF_EXECINSTR, SHF_ALLOC
_FUNCTION_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_SYMBOL = {
    True: np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]),
    False: np.dtype([("name", "<u4"), ("value", "<u4"), ("size", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2")]),
}


class Unreadable(Exception):
    """A file that cannot be disassembled; its text is the reason, in a few words."""


class Function(NamedTuple):
    """A piece of code: what it is called (``f_401000`` if that is not known), where it begins, and its bytes."""

    name: str
    address: int
    code: bytes


@dataclass(frozen=True)
class Binary:
    """The functions of one file.

    Attributes:
        architecture: ``x86``, ``x86-64`` or ``aarch64``.
        functions: by address, none overlapping another.
        image: address ranges of the memory image if it is linked for a fixed place, otherwise empty.
        left_out: how many functions were not taken, by reason.
    """

    architecture: str
    functions: list[Function]
    image: tuple[tuple[int, int], ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)


class _Segment(NamedTuple):
    address: int
    offset: int
    size: int
    memory: int
    executable: bool


class _Section(NamedTuple):
    name: str
    kind: str
    flags: int
    address: int
    offset: int
    size: int
    link: int


def read_binary(data: bytes) -> Binary:
    """Find the functions of an ELF file.

    Args:
        data: the whole file.

    Raises:
        Unreadable: it is no ELF file, damaged, not linked, of another architecture, or holds no function.
        ImportError: pyelftools is not installed.
    """
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError as error:
        raise ImportError("Reading binaries needs the `pyelftools` library, which is not installed. Type: pip install 'unmask[traces]'") from error
    if data[:4] != b"\x7fELF":
        raise Unreadable("not an ELF file")
    try:
        elf = ELFFile(io.BytesIO(data))
        machine, kind, wide = str(elf["e_machine"]), str(elf["e_type"]), elf.elfclass == 64
        if machine not in _MACHINES or not elf.little_endian:
            raise Unreadable("of another architecture")
        if kind not in ("ET_EXEC", "ET_DYN"):
            raise Unreadable("an object file that is not linked" if kind == "ET_REL" else "neither a program nor a library")
        layout = _Layout(elf, data, wide)
        left_out: Counter[str] = Counter()
        functions = layout.functions(layout.function_ranges(), left_out)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # a hostile file raises anything
        raise Unreadable("cut off or damaged") from error
    if not functions:
        raise Unreadable("no function found")
    image = tuple((s.address, s.address + s.memory) for s in layout.segments) if kind == "ET_EXEC" else ()
    return Binary(_MACHINES[machine], functions, image, left_out)


class _Layout:
    """Segments, sections and symbols of one file, and the bytes at its addresses."""

    def __init__(self, elf: Any, data: bytes, wide: bool) -> None:
        self.data, self.wide = data, wide
        if elf.num_segments() > _MOST_HEADERS or elf.num_sections() > _MOST_HEADERS:
            raise Unreadable("cut off or damaged")
        self.segments: list[_Segment] = []
        self.frame_header: _Segment | None = None
        for segment in elf.iter_segments():
            found = _Segment(
                segment["p_vaddr"], segment["p_offset"], segment["p_filesz"], segment["p_memsz"], bool(segment["p_flags"] & 1)
            )
            if segment["p_type"] == "PT_LOAD":
                self.segments.append(found)
            elif segment["p_type"] == "PT_GNU_EH_FRAME":
                self.frame_header = found
        self.sections = _sections(elf)
        self.code = [s for s in self.sections if s.flags & _EXECUTABLE and s.flags & _ALLOCATED and s.kind == "SHT_PROGBITS"]

    def bytes_at(self, address: int, size: int, executable: bool = False) -> bytes:
        """What the file puts there; fewer bytes, or none, where it puts nothing."""
        for segment in self.segments:
            into = address - segment.address
            if 0 <= into < segment.size and (segment.executable or not executable):
                begin = segment.offset + into
                return self.data[begin : begin + min(size, segment.size - into)]
        return b""

    def function_ranges(self) -> list[tuple[int, int]]:
        """``(begin, length)`` by address; may overlap or lie outside the code."""
        frames = sorted(set(self._frames()))
        whole = sum(section.size for section in self.code)
        covered = _covered(frames)
        tables = ["SHT_DYNSYM"] if covered and covered >= _COVERED_ENOUGH * whole else ["SHT_DYNSYM", "SHT_SYMTAB"]
        symbols = {r for table in tables for r in self._symbol_ranges(table) if r[1] > 0}
        return _outside(frames, symbols)

    def _frames(self) -> Iterable[tuple[int, int]]:
        section = next((s for s in self.sections if s.name == ".eh_frame" and s.kind != "SHT_NOBITS"), None)
        if section is not None:
            return frame_ranges(self.data[section.offset : section.offset + section.size], section.address, self.wide)
        if self.frame_header is not None:
            header = self.bytes_at(self.frame_header.address, self.frame_header.size)
            address = frame_table_address(header, self.frame_header.address, self.wide)
            if address is not None:
                return frame_ranges(self.bytes_at(address, len(self.data)), address, self.wide)
        return ()

    def _symbols(self, kind: str) -> Any:
        """The defined function symbols of one table, and the bytes of its strings."""
        for section in self.sections:
            if section.kind == kind and section.link < len(self.sections):
                dtype = _SYMBOL[self.wide]
                raw = self.data[section.offset : section.offset + section.size]
                table = np.frombuffer(raw, dtype, count=len(raw) // dtype.itemsize)
                table = table[np.isin(table["info"] & 0xF, _FUNCTION_TYPES) & (table["section"] != 0)]
                strings = self.sections[section.link]
                return table, self.data[strings.offset : strings.offset + strings.size]
        return None

    def _symbol_ranges(self, kind: str) -> list[tuple[int, int]]:
        found = self._symbols(kind)
        return [] if found is None else list(zip(found[0]["value"].tolist(), found[0]["size"].tolist(), strict=True))

    def _names(self, wanted: set[int]) -> dict[int, str]:
        """Names of the functions at these addresses: a global one before a local one, then the first by alphabet."""
        best: dict[int, tuple[bool, str]] = {}
        addresses = np.array(sorted(wanted), dtype=np.uint64)
        for kind in ("SHT_SYMTAB", "SHT_DYNSYM"):
            found = self._symbols(kind)
            if found is None:
                continue
            table, strings = found
            table = table[np.isin(table["value"], addresses)]
            for address, place, info in zip(table["value"].tolist(), table["name"].tolist(), table["info"].tolist(), strict=True):
                if place < len(strings):
                    end = strings.find(b"\0", place, place + 4096)
                    name = strings[place : end if end >= 0 else place + 4096].decode("utf-8", "replace")
                    if name:
                        candidate = (info >> 4 == 0, name)
                        best[address] = min(best.get(address, candidate), candidate)
        return {address: name for address, (_, name) in best.items()}

    def functions(self, ranges: list[tuple[int, int]], left_out: Counter[str]) -> list[Function]:
        """The code in these ranges; what cannot be taken is counted by reason."""
        stubs = [(s.address, s.address + s.size) for s in self.code if s.name.startswith(".plt")]
        taken = []
        last_end = 0
        for begin, length in ranges:
            if any(first <= begin < end for first, end in stubs):
                left_out["stub of the linker"] += 1
            elif length > LONGEST_FUNCTION:
                left_out[f"longer than {LONGEST_FUNCTION // 1024} KiB"] += 1
            elif begin < last_end:
                left_out["overlaps another"] += 1
            elif length == 0 or len(code := self.bytes_at(begin, length, executable=True)) < length:
                left_out["outside the code"] += 1
            else:
                taken.append((begin, code))
                last_end = begin + length
        names = self._names({begin for begin, _ in taken})
        return [Function(names.get(begin, f"f_{begin:x}"), begin, code) for begin, code in taken]


def _sections(elf: Any) -> list[_Section]:
    """The section headers; none if the table is damaged, as loaders do not read it either."""
    found = []
    try:
        for section in elf.iter_sections():
            found.append(
                _Section(
                    section.name, str(section["sh_type"]), section["sh_flags"], section["sh_addr"],
                    section["sh_offset"], section["sh_size"], section["sh_link"],
                )
            )  # fmt: skip
    except Exception:
        return []
    return found


def _covered(ranges: list[tuple[int, int]]) -> int:
    """Bytes in sorted ``(begin, length)`` ranges, each counted once."""
    total = end = 0
    for begin, length in ranges:
        total += max(0, begin + length - max(begin, end))
        end = max(end, begin + length)
    return total


def _outside(frames: list[tuple[int, int]], symbols: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The frames, and those symbols that begin in none of them, the longest at each address; sorted."""
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
