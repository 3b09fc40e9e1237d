"""Recognise linker stubs by their shape: the code of ``.plt``, ``.plt.got`` and ``.plt.sec`` on x86 and x86-64.

A linker describes each of these sections with one frame, so a stub "function" consists only of these entries:

    first      push [slot]; jmp [slot]; padding
    lazy       jmp [slot]; push number; jmp first          with CET: endbr; push number; jmp first; padding
    direct     jmp [slot]; padding                         with CET: endbr; jmp [slot]; padding

Every entry has 8 or 16 bytes, and its slot is in writable memory. A tail call through a pointer is not a stub:
compilers do not count padding as part of a function. On AArch64, stubs have no frames and are recognised by their
section's name only.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ENDBR = rb"\xf3\x0f\x1e[\xfa\xfb]"
_SLOT_JUMP = rb"\xf2?\xff[\x25\xa3](?P<%s>....)"
_PAD = rb"(?:\x90|\x66\x90|\x0f\x1f(?:\x00|\x40\x00|\x44\x00\x00|\x80\x00{4})|\x66\x0f\x1f\x44\x00\x00)"
_ENTRY = re.compile(
    rb"(?:" + _ENDBR + rb")?\xff[\x35\xb3]....(?:" + _SLOT_JUMP % b"first" + rb")(?:" + _PAD + rb"+|\x00{4})?"
    rb"|(?:" + _SLOT_JUMP % b"lazy" + rb")\x68....\xe9...."
    rb"|" + _ENDBR + rb"\x68....\xf2?\xe9....(?:" + _PAD + rb")*"
    rb"|(?:" + _ENDBR + rb")?(?:" + _SLOT_JUMP % b"direct" + rb")" + _PAD + rb"+",
    re.DOTALL,
)  # fmt: skip
_ARCHITECTURES = ("x86", "x86-64")
_BASED = 0xA3  # jmp [ebx + slot], on x86: the address of the slot is unknown


def is_stub(code: bytes, address: int, architecture: str, is_data: Callable[[int], bool]) -> bool:
    """Return whether a range of code consists of linker stubs.

    Args:
        code: bytes of the range.
        address: address of the range.
        architecture: ``x86``, ``x86-64`` or ``aarch64``.
        is_data: returns whether an address is in writable memory.
    """
    if architecture not in _ARCHITECTURES or not code or len(code) % 8:
        return False
    place = 0
    while place < len(code):
        entry = _ENTRY.match(code, place, place + 16)
        if entry is None or len(entry[0]) not in (8, 16):
            return False
        kind = entry.lastgroup
        if kind is not None:
            slot, end = int.from_bytes(entry[kind], "little"), entry.end(kind)
            if architecture == "x86-64":
                slot = (address + end + slot - (slot >> 31 << 32)) % 2**64
            based = code[entry.start(kind) - 1] == _BASED
            if architecture != "x86" if based else not is_data(slot):
                return False
        place = entry.end()
    return True
