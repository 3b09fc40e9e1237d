"""Ranges of functions from ``.eh_frame``, the unwinding table that stripped binaries keep.

The table is a list of entries. A common entry (CIE) defines the encoding of addresses; a frame entry (FDE) states that
one function covers ``[begin, begin + length)``. The unwinding instructions are skipped, which makes this about fifty
times faster than a complete parser. Linux Standard Base Core 5.0, sections 10.5 and 10.6.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice

_KINDS = {0x02: "h", 0x03: "i", 0x04: "q", 0x0A: "h", 0x0B: "i", 0x0C: "q"}  # DW_EH_PE_udata2 … sdata8
_OMITTED = 0xFF
_FIRST_ENTRY = re.compile(
    rb"[\x0c-\x40]\0{3}\0{4}\x01z[PLRSBG]{0,6}\0"
)  # a common entry: length, 0, version 1, augmentation
_MOST_CANDIDATES = 16
_COUNT, _PAIRS = 0x03, 0x3B  # udata4; sdata4 relative to the header: the encodings that linkers use


def frame_ranges(table: bytes, address: int, wide: bool, last: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield ``(begin, length)`` of the functions in an ``.eh_frame``, in the table's order.

    The iteration ends with the table, at its terminator, after ``last``, or at the first invalid entry.

    Args:
        table: bytes of the table, little-endian.
        address: address of the table in memory, to which its addresses are relative.
        wide: True = 64-bit addresses.
        last: offset of the last entry, if known.
    """
    encodings: dict[int, int] = {}
    place = 0
    while place + 8 <= len(table) and (last is None or place <= last):
        (length,) = struct.unpack_from("<I", table, place)
        body = place + 4
        if length == 0xFFFFFFFF:
            if place + 20 > len(table):
                return
            (length,) = struct.unpack_from("<Q", table, body)
            body += 8
        if length < 4 or body + length > len(table):
            return
        (back,) = struct.unpack_from("<I", table, body)
        try:
            if back == 0:
                encodings[place] = _address_encoding(table[body : body + length], wide)
            elif (encoding := encodings.get(body - back, _OMITTED)) != _OMITTED:
                function = _range(table, body + 4, encoding, address, wide)
                if function is not None:
                    yield function
        except (struct.error, IndexError):
            return
        place = body + length


def _address_encoding(entry: bytes, wide: bool) -> int:
    """Return the address encoding of the frames of a common entry; ``_OMITTED`` if it is unknown."""
    end = entry.index(0, 5) if 0 in entry[5:] else len(entry)
    augmentation = entry[5:end]
    if augmentation == b"":
        return 0
    if not augmentation.startswith(b"z"):
        return _OMITTED
    place = _skip_leb(entry, _skip_leb(entry, end + 1))  # code and data alignment
    place = place + 1 if entry[4] == 1 else _skip_leb(entry, place)  # the register of the return address
    place = _skip_leb(entry, place)  # length of what follows
    for letter in augmentation[1:]:
        if letter == ord("R"):
            return entry[place]
        if letter == ord("P"):
            kind = entry[place]
            place += 1 + struct.calcsize(_kind(kind, wide) or "")
        elif letter == ord("L"):
            place += 1
        elif letter not in b"SBG":
            return _OMITTED
    return 0


def _skip_leb(entry: bytes, place: int) -> int:
    while entry[place] & 0x80:
        place += 1
    return place + 1


def _kind(encoding: int, wide: bool) -> str | None:
    """Return the ``struct`` letter of an address; None for an encoding without fixed size."""
    return ("q" if wide else "i") if encoding & 0x0F == 0 else _KINDS.get(encoding & 0x0F)


def _value(data: bytes, place: int, encoding: int, address: int, wide: bool) -> int | None:
    """Decode the address at ``data[place]``, which is at ``address + place`` in memory.

    Returns:
        The address; None for encodings that functions never use: indirect, or relative to text, data or function.
    """
    kind = _kind(encoding, wide)
    if kind is None or encoding & 0xE0:
        return None
    value: int
    (value,) = struct.unpack_from("<" + kind, data, place)
    return (value + (address + place if encoding & 0x10 else 0)) & (2**64 - 1 if wide else 2**32 - 1)


def _range(table: bytes, place: int, encoding: int, address: int, wide: bool) -> tuple[int, int] | None:
    begin = _value(table, place, encoding, address, wide)
    if begin is None:
        return None
    kind = str(_kind(encoding, wide))
    return begin, struct.unpack_from("<" + kind.upper(), table, place + struct.calcsize(kind))[0]


def frame_table_address(header: bytes, address: int, wide: bool) -> int | None:
    """Return the address of ``.eh_frame`` from ``.eh_frame_hdr`` (segment ``PT_GNU_EH_FRAME``) at ``address``, or None."""
    if len(header) < 12 or header[0] != 1:
        return None
    return _value(header, 4, header[1], address, wide)


def last_listed_frame(header: bytes, address: int) -> int | None:
    """Return the address of the last frame entry in the search table of ``.eh_frame_hdr``; None without such a table.

    Not every linker writes a terminator after ``.eh_frame``, so this bounds the reading.
    """
    if len(header) < 12 or header[1] & 0x0F not in (0x03, 0x0B) or header[2] != _COUNT or header[3] != _PAIRS:
        return None
    (count,) = struct.unpack_from("<I", header, 8)
    offsets = [
        offset for _, offset in struct.iter_unpack("<ii", header[12 : 12 + 8 * min(count, (len(header) - 12) // 8)])
    ]
    return address + max(offsets) if offsets else None


def possible_tables(memory: bytes) -> list[int]:
    """Return a few offsets at which an ``.eh_frame`` may begin: word-aligned bytes that match its first entry."""
    aligned = (match.start() for match in _FIRST_ENTRY.finditer(memory) if match.start() % 4 == 0)
    return list(islice(aligned, _MOST_CANDIDATES))
