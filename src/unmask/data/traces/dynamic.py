"""Exported symbols as the loader finds them: by the segment ``PT_DYNAMIC``, without a section table.

The dynamic table says where symbols and their strings lie. How many symbols there are, only a hash table tells: ``DT_HASH``
outright, ``DT_GNU_HASH`` by the end of its last chain. System V ABI, chapter 5.
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
    """The bytes of the dynamic symbol table and of its strings; None where segments do not tell.

    Args:
        headers: of the file.
        bytes_at: ``(address, size)`` to the bytes there, fewer where the file has no more.
    """
    segment = next((s for s in headers.segments if s.kind == PT_DYNAMIC), None)
    if segment is None:
        return None
    entry = struct.Struct("<QQ" if headers.wide else "<II")
    raw = bytes_at(segment.address, min(segment.size, _MOST_ENTRIES * entry.size))
    found: dict[int, int] = {}
    for tag, value in entry.iter_unpack(raw[: len(raw) // entry.size * entry.size]):
        if tag == 0:
            break
        found.setdefault(tag, value)
    if not {_SYMBOLS, _STRINGS} <= found.keys():
        return None
    count = None
    if _HASH in found:
        counts = bytes_at(found[_HASH], 8)
        count = struct.unpack("<II", counts)[1] if len(counts) == 8 else None
    elif _GNU_HASH in found:
        count = _hashed(bytes_at(found[_GNU_HASH], _ALL), headers.wide)
    if count is None:
        return None
    return bytes_at(found[_SYMBOLS], count * _SYMBOL_SIZE[headers.wide]), bytes_at(
        found[_STRINGS], found.get(_STRINGS_SIZE, _ALL)
    )


def _hashed(table: bytes, wide: bool) -> int | None:
    """Number of symbols under a GNU hash table: one more than the last of the chain that begins last."""
    if len(table) < 16:
        return None
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
