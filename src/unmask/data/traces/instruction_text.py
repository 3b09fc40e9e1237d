"""Convert Capstone's text of an instruction to the words of a trace.

    mov eax, dword ptr [rbp - 4]      mov eax dword [ rbp - 4 ]
    mov rax, qword ptr fs:[0x28]      mov rax qword [ fs + 40 ]
    vpaddq zmm3 {k3} {z}, zmm3, zmm14 vpaddq zmm3 { k3 } { z } zmm3 zmm14
    ldp x29, x30, [sp, #-0x10]!       ldp x29 x30 [ sp -16 ] !

Integers are decimal, with Capstone's sign, and never shortened. Traces do not depend on the address of the code:

    rel N   an address in the same function, N bytes from the start of this instruction (jumps, ``adr``, literals)
    ext     an address outside it: targets of calls and of other jumps, ``[ rip + ext ]``, the page of ``adrp``, and, in
            a binary with a fixed address, any integer inside its memory image

The words of an instruction are cached by its text. Texts repeat, so parsing is rare.
"""

from __future__ import annotations

import re

X86 = ("x86", "x86-64")
ARCHITECTURES = (*X86, "aarch64")

_WORD = re.compile(
    r"(?P<number>-?(?:0x[0-9a-f]+|[0-9]+(?:\.[0-9]+)?)(?![\w]))"
    r"|[a-z0-9_][\w.]*(?:-[a-z]+)*(?:/[mz])?(?:\([0-9]\))?|[\[\]{}()+*!:-]|[^\s,#]"
)
_SEGMENT = re.compile(r"\b([cdefgs]s):\[")
_INSTRUCTION_POINTER = re.compile(r"\[([re]ip)[^\]]*\]")
_X86_JUMPS = frozenset(["call", "loop", "loope", "loopne", "xbegin"])
_ARM_JUMPS = frozenset(
    ["b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr", "ldr", "ldrsw", "prfm"]
)  # the last three: literals
_CACHED = 2**16  # texts; a full cache is cleared, which bounds memory


class InstructionText:
    """Words of the instructions of one binary.

    Args:
        architecture: one of ``ARCHITECTURES``.
        image: ``(first, end)`` address ranges of a binary linked for a fixed address, in which integers are addresses;
            empty for position-independent binaries.
    """

    def __init__(self, architecture: str, image: tuple[tuple[int, int], ...] = ()) -> None:
        self._x86 = architecture in X86
        self._image = image
        self.known: dict[tuple[str, str], str] = {}

    def __call__(self, mnemonic: str, operands: str, at: int, start: int, end: int) -> str:
        """Return the words of one instruction.

        Args:
            mnemonic, operands: in Capstone's notation.
            at: address of the instruction.
            start, end: address range of its function, ``end`` exclusive.
        """
        if self._x86:
            if operands.startswith("0x") and _is_x86_jump(mnemonic):
                return f"{mnemonic} {_place(int(operands, 16), at, start, end)}"
            operands = _INSTRUCTION_POINTER.sub(r"[\1 + ext]", operands)
        elif "#" in operands and "[" not in operands:
            before, _, last = operands.rpartition("#")
            if mnemonic == "adrp":
                return " ".join([mnemonic, *self.words(before), "ext"])
            if mnemonic in _ARM_JUMPS or mnemonic.startswith(("b.", "bc.")):
                return " ".join([mnemonic, *self.words(before), _place(int(last, 0), at, start, end)])
        key = mnemonic, operands
        text = self.known.get(key)
        if text is None:
            text = " ".join([mnemonic, *self.words(operands)])
            if len(self.known) >= _CACHED:
                self.known.clear()
            self.known[key] = text
        return text

    def words(self, operands: str) -> list[str]:
        """Return the words of operands in Capstone's notation, without jump targets."""
        words = []
        for match in _WORD.finditer(_SEGMENT.sub(r"[\1 + ", operands)):
            word = match[0]
            if match["number"] is not None:
                word = self._number(word)
            if word != "ptr":
                words.append(word)
        return words

    def _number(self, text: str) -> str:
        if "." in text:
            return str(float(text))
        value = int(text, 0)
        return "ext" if any(first <= value < end for first, end in self._image) else str(value)


def _is_x86_jump(mnemonic: str) -> bool:
    last = mnemonic.rpartition(" ")[2]  # after prefixes
    return last.startswith("j") or last in _X86_JUMPS


def _place(target: int, at: int, start: int, end: int) -> str:
    return f"rel {target - at}" if start <= target < end else "ext"
