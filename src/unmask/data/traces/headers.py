"""ELF headers, read as a loader does: segments are required, the section table is optional.

An invalid section table (beyond the end of the file, of another entry size, with a non-empty first entry) is ignored,
since no loader reads it. In a readable table, an executable section is kept only if a segment confirms it. All numbers
are little-endian. Formats: System V ABI, chapters 4 and 5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MOST_HEADERS = 2**14  # sections or segments; real files have a few dozen
PT_LOAD, PT_DYNAMIC, PT_GNU_EH_FRAME = 1, 2, 0x6474E550
SHT_PROGBITS, SHT_SYMTAB, SHT_NOBITS, SHT_DYNSYM = 1, 2, 8, 11
SHF_ALLOC, SHF_EXECINSTR = 0x2, 0x4
PF_X, PF_W = 0x1, 0x2
_HEADER = {True: struct.Struct("<HHIQQQIHHHHHH"), False: struct.Struct("<HHIIIIIHHHHHH")}
_SEGMENT = {True: struct.Struct("<IIQQQQQQ"), False: struct.Struct("<IIIIIIII")}
_SECTION = {True: struct.Struct("<IIQQQQIIQQ"), False: struct.Struct("<10I")}


class Segment(NamedTuple):
    """A program header; ``size`` counts bytes of the file, ``memory`` bytes of the memory image."""

    kind: int
    flags: int
    offset: int
    address: int
    size: int
    memory: int


class Section(NamedTuple):
    """A section header; ``name`` is empty if the names cannot be read."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Headers:
    """The headers of one file.

    Attributes:
        wide: True = 64-bit addresses.
        little: True = little-endian; otherwise the other attributes are empty.
        kind, machine: ``e_type`` and ``e_machine``.
        segments: in the order of the file.
        sections: empty without a usable section table.
    """

    wide: bool
    little: bool
    kind: int = 0
    machine: int = 0
    segments: tuple[Segment, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def loaded(self) -> tuple[Segment, ...]:
        """The segments mapped into memory."""
        return tuple(s for s in self.segments if s.kind == PT_LOAD)


def read_headers(data: bytes) -> Headers:
    """Read the headers of an ELF file.

    Args:
        data: contents of the file.

    Raises:
        ValueError: the ELF header or the program headers are truncated or damaged, or the file ends before its
            segments.
    """
    if len(data) < 16 or data[4] not in (1, 2) or data[5] not in (1, 2):
        raise ValueError("the ELF header is damaged")
    wide = data[4] == 2
    if data[5] == 2:
        return Headers(wide, little=False)
    header = _HEADER[wide]
    if len(data) < 16 + header.size:
        raise ValueError("the ELF header is cut off")
    kind, machine, _, _, at, sections_at, _, _, entry, count, section_entry, section_count, names_in = (
        header.unpack_from(data, 16)
    )
    if count > MOST_HEADERS or (count and entry != _SEGMENT[wide].size) or at + count * entry > len(data):
        raise ValueError("the program headers are cut off or damaged")
    segments = tuple(_segment(data, at + n * entry, wide) for n in range(count))
    sections: tuple[Section, ...] = ()
    if section_entry == _SECTION[wide].size:
        sections = tuple(_confirmed(_sections(data, sections_at, section_count, names_in, wide), segments))
    if not sections and any(s.offset + s.size > len(data) for s in segments if s.kind == PT_LOAD):
        raise ValueError("the file ends before its segments")
    return Headers(wide, True, kind, machine, segments, sections)


def _segment(data: bytes, place: int, wide: bool) -> Segment:
    values = _SEGMENT[wide].unpack_from(data, place)
    if wide:
        kind, flags, offset, address, _, size, memory, _ = values
    else:
        kind, offset, address, _, size, memory, flags, _ = values
    return Segment(kind, flags, offset, address, size, memory)


def _sections(data: bytes, at: int, count: int, names_in: int, wide: bool) -> list[Section]:
    """Return the entries of the section table; none for an absent or invalid table."""
    entry = _SECTION[wide]
    if not at or not 0 < count <= MOST_HEADERS or at + count * entry.size > len(data):
        return []
    rows = [entry.unpack_from(data, at + n * entry.size) for n in range(count)]
    if any(rows[0][:6]):  # the first entry is reserved and empty
        return []
    names = data[rows[names_in][4] : rows[names_in][4] + rows[names_in][5]] if names_in < count else b""
    return [Section(_name(names, row[0]), row[1], row[2], row[3], row[4], row[5], row[6]) for row in rows]


def _name(names: bytes, place: int) -> str:
    end = names.find(b"\0", place, place + 256) if place < len(names) else -1
    return names[place:end].decode("utf-8", "replace") if end >= 0 else ""


def _confirmed(sections: list[Section], segments: Iterable[Segment]) -> list[Section]:
    """Drop executable sections that no segment confirms or that overlap another.

    Indices are preserved: a dropped section becomes an empty one.
    """
    loaded = [s for s in segments if s.kind == PT_LOAD and s.flags & PF_X]
    code = sorted((s.address, s.address + s.size, n) for n, s in enumerate(sections) if is_code(s) and s.size)
    wrong = {n for _, _, n in code if not any(holds(segment, sections[n]) for segment in loaded)}
    kept = [part for part in code if part[2] not in wrong]
    end, last = 0, -1
    for begin, stop, n in kept:
        if begin < end:
            wrong |= {n, last}
        if stop > end:
            end, last = stop, n
    return [s if n not in wrong else Section("", 0, 0, 0, 0, 0, 0) for n, s in enumerate(sections)]


def is_code(section: Section) -> bool:
    """Return whether a section holds instructions of the memory image."""
    return section.kind == SHT_PROGBITS and bool(section.flags & SHF_EXECINSTR) and bool(section.flags & SHF_ALLOC)


def holds(segment: Segment, section: Section) -> bool:
    """Return whether a segment holds a section at the same offset in the file and in memory."""
    into = section.address - segment.address
    return 0 <= into <= segment.size - section.size and section.offset - segment.offset == into
