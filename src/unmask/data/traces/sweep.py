"""Linear-sweep disassembly: convert the code of a function to its trace, accounting for every byte.

Capstone decodes one instruction after another, without operand detail, which is ten times slower and adds no
information to the text. Bytes that are no instruction are skipped and written as ``.byte 6``, so that the sizes in a
trace always add up to the size of the function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from unmask.data.traces.instruction_text import InstructionText
from unmask.data.traces.trace_tokenizer import NEXT

_BETWEEN = f" {NEXT} "


class Trace(NamedTuple):
    """The words of a function, the number of instructions, and the number of bytes that are none (``.byte``)."""

    text: str
    instructions: int
    undecoded: int


class Sweep:
    """Traces of the functions of one binary.

    Args:
        architecture: one of ``unmask.data.traces.instruction_text.ARCHITECTURES``.
        image: address ranges of a binary linked for a fixed address (see ``InstructionText``).

    Raises:
        ImportError: Capstone is not installed.
    """

    def __init__(self, architecture: str, image: tuple[tuple[int, int], ...] = ()) -> None:
        self._capstone = capstone(architecture)
        self._text = InstructionText(architecture, image)

    def __call__(self, address: int, code: bytes) -> Trace:
        """Trace a function.

        Args:
            address: first address of the function.
            code: its bytes, at least one.
        """
        text, known, end = self._text, self._text.known, address + len(code)
        texts = []
        undecoded, at, size = 0, address, 0
        for at, size, mnemonic, operands in self._capstone.disasm_lite(code, address):
            if mnemonic == ".byte":
                undecoded += size
            texts.append(known.get((mnemonic, operands)) or text(mnemonic, operands, at, address, end))
        for rest in range(
            at + size - address, len(code), 4
        ):  # fewer bytes than any instruction of the architecture has
            undecoded += len(code[rest : rest + 4])
            texts.append(" ".join([".byte", *map(str, code[rest : rest + 4])]))
        return Trace(_BETWEEN.join(texts), len(texts), undecoded)


def capstone(architecture: str) -> Any:
    """Return a Capstone handle that skips undecodable bytes.

    Raises:
        ImportError: Capstone is not installed.
    """
    try:
        import capstone as library
    except ImportError as error:
        raise ImportError(
            "Disassembling needs the `capstone` library, which is not installed. Type: pip install 'unmask[traces]'"
        ) from error
    kinds = {
        "x86": (library.CS_ARCH_X86, library.CS_MODE_32),
        "x86-64": (library.CS_ARCH_X86, library.CS_MODE_64),
        "aarch64": (library.CS_ARCH_ARM64, library.CS_MODE_ARM),
    }
    handle = library.Cs(*kinds[architecture])
    handle.skipdata = True
    return handle
