"""Exported symbols, located as a loader does: by the segment ``PT_DYNAMIC``, without a section table.

The dynamic table holds the addresses of symbols and strings. The number of symbols follows from a hash table:
``DT_HASH`` stores it, ``DT_GNU_HASH`` implies it by the end of its last chain. System V ABI, chapter 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from unmask.data.traces.headers import PT_DYNAMIC, Headers

_HASH, _STRINGS, _SYMBOLS, _STRINGS_SIZE, _GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5
_SYMBOL_SIZE = {True: 24, False: 16}
_MOST_ENTRIES = 2**12  # of the dynamic table
_ALL = 2**63


def dynamic_symbols(headers: Headers, bytes_at: Callable[[int, int], bytes]) -> tuple[bytes, bytes] | None:
    """Return the bytes of the dynamic symbol table and of its strings; None if the segments do not locate them.

    Args:
        headers: headers of the file.
        bytes_at: maps ``(address, size)`` to bytes, fewer at the end of the file.
    """
    segment = next((s for s in headers.segments if s.kind == PT_DYNAMIC), None)
    if segment is None:
        return None
    entry = struct.Struct("<QQ" if headers.wide else "<II")
    raw = bytes_at(segment.address, min(segment.size, _MOST_ENTRIES * entry.size))
    tags: dict[int, int] = {}
    for tag, value in entry.iter_unpack(raw[: len(raw) // entry.size * entry.size]):
        if tag == 0:
            break
        tags.setdefault(tag, value)
    if not {_SYMBOLS, _STRINGS} <= tags.keys():
        return None
    count = None
    if _HASH in tags:
        counts = bytes_at(tags[_HASH], 8)
        count = struct.unpack("<II", counts)[1] if len(counts) == 8 else None
    elif _GNU_HASH in tags:
        count = _gnu_hash_count(bytes_at(tags[_GNU_HASH], _ALL), headers.wide)
    if count is None:
        return None
    return bytes_at(tags[_SYMBOLS], count * _SYMBOL_SIZE[headers.wide]), bytes_at(
        tags[_STRINGS], tags.get(_STRINGS_SIZE, _ALL)
    )


def _gnu_hash_count(table: bytes, wide: bool) -> int | None:
    """Return the number of symbols under a GNU hash table: one more than the last symbol of the last chain."""
    if len(table) < 16:
        return None
    buckets: int
    first: int
    buckets, first, words, _ = struct.unpack_from("<4I", table)
    begin = 16 + words * (8 if wide else 4)
    if begin + 4 * buckets > len(table):
        return None
    last = int(np.frombuffer(table, "<u4", buckets, begin).max(initial=0))
    if last < first:
        return first
    chain = begin + 4 * buckets + 4 * (last - first)
    if chain >= len(table):
        return None
    ends = np.frombuffer(table, "<u4", (len(table) - chain) // 4, chain) & 1
    return last + int(ends.argmax()) + 1 if ends.any() else None
