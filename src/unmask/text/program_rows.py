"""Rows to fill from a function of a program: each hides one operand, one instruction, or an instruction by its number.

mov eax dword [ rbp - 4 ]   →   mov eax [MASK] [MASK] [MASK] [MASK] [MASK]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces.elf import Unreadable, read_binary
from unmask.data.traces.granularity import trace_granularity
from unmask.data.traces.sweep import Sweep
from unmask.suggestions import nearest

NEXT = "[NEXT]"
_NAMED = 12  # functions in an error message


@dataclass(frozen=True)
class ProgramFunction:
    """A function of a program.

    Attributes:
        name: its name, or ``f_401000``.
        architecture: ``x86``, ``x86-64`` or ``aarch64``.
        trace: its instructions, separated by ``[NEXT]``.
    """

    name: str
    architecture: str
    trace: str


@dataclass(frozen=True)
class HiddenPart:
    """One row: a part of an instruction is hidden, everything else is given.

    Attributes:
        row: ``text`` (the trace with blanks) or ``before`` and ``after``, and ``function``, ``instruction``, ``given``, ``hidden``.
        before, after: the trace around the hidden part.
        begin, end: the words of the instruction before and after it.
    """

    row: dict[str, Any]
    before: str
    after: str
    begin: str
    end: str

    def filled(self, text: str) -> str:
        """Return the instruction of a filled trace."""
        part = text[len(self.before) : len(text) - len(self.after)]
        return " ".join([*self.begin.split(), *part.split(), *self.end.split()])


def read_function(path: Path, name: str) -> ProgramFunction:
    """Disassemble one function of an ELF file.

    Args:
        path: the file.
        name: name of the function, or its address as in ``0x401000``.

    Raises:
        ValueError: the file cannot be disassembled, or holds no such function.
        ImportError: Capstone is not installed.
    """
    try:
        binary = read_binary(path.read_bytes())
    except Unreadable as reason:
        raise ValueError(
            f"--binary {path} cannot be disassembled: {reason}. Give a linked ELF program or library."
        ) from None
    address = int(name, 16) if name.lower().startswith("0x") else None
    found = [f for f in binary.functions if f.name == name or f.address == address]
    if not found:
        names = [f.name for f in binary.functions]
        listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
        raise ValueError(
            f"{path} has no function {name!r}.{nearest(name, names)} It has {listed}. An address is written 0x401000."
        )
    trace = Sweep(binary.architecture, binary.image)(found[0].address, found[0].code)
    return ProgramFunction(found[0].name, binary.architecture, trace.text)


def hidden_parts(
    tokenizer: Tokenizer, function: ProgramFunction, hide: str, open_length: bool = False
) -> Iterator[HiddenPart]:
    """Yield a row for each hidden part of a function.

    Args:
        tokenizer: a trace tokenizer.
        function: the function.
        hide: ``"operand"`` = each mnemonic and operand in turn, ``"instruction"`` = each instruction in turn, or the number of an
            instruction, from 1.
        open_length: True = one blank of unknown length in place of one blank per token.

    Raises:
        ValueError: another word, a number outside the function, or a tokenizer without ``[NEXT]``.
    """
    instructions = function.trace.split(f" {NEXT} ")
    chosen = None
    if hide not in ("operand", "instruction"):
        chosen = int(hide) if hide.isascii() and hide.isdecimal() else 0
        if not 1 <= chosen <= len(instructions):
            raise ValueError(
                f"--hide {hide} is neither operand nor instruction nor the number of an instruction: {function.name} has instructions 1 to "
                f"{len(instructions)}."
            )
    units = trace_granularity(tokenizer, "operand" if hide == "operand" else "instruction")
    for number, instruction in enumerate(instructions, start=1):
        if chosen not in (None, number):
            continue
        ids = tokenizer.encode(instruction)
        firsts = units(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[0].tolist()
        for first in dict.fromkeys(firsts):
            count = firsts.count(first)
            begin, hidden, end = (
                tokenizer.decode(part).strip()
                for part in (ids[:first], ids[first : first + count], ids[first + count :])
            )
            before = " ".join([*(f"{each} {NEXT}" for each in instructions[: number - 1]), *([begin] if begin else [])])
            after = " ".join([*([end] if end else []), *(f"{NEXT} {each}" for each in instructions[number:])])
            before, after = before and f"{before} ", after and f" {after}"
            blanks = " ".join([tokenizer.mask_token or ""] * count)
            text = {"before": before, "after": after} if open_length else {"text": f"{before}{blanks}{after}"}
            fields = {"function": function.name, "instruction": number, "given": instruction, "hidden": hidden}
            yield HiddenPart({**fields, **text}, before, after, begin, end)
