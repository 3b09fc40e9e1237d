"""``InstructionGrammar``: blanks of an instruction trace are filled so that each instruction is well formed.

    instruction   prefixes, a mnemonic, operands
    operand       register · integer · ext · rel N · size [ … ] · [ … ] with ! · { … } · a shift, extension or condition
    [ … ]         registers and integers, joined by + - * or, on AArch64, adjacent

The rest of an instruction is read too: in ``mov [MASK] [ rbp - 4 ]`` the blank is a size. Instructions are independent of each other.
An instruction whose given words are not well formed (words outside the vocabulary) is constrained as far as it can be: by the
words before its blanks, or only to words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from unmask.contracts import SpecialIds
from unmask.data.traces.classes import TOKEN_CLASSES, TokenClasses
from unmask.data.traces.granularity import require_next
from unmask.decode.logits.automaton import Automaton, Cell
from unmask.decode.view import StepView

_CLASSES = (
    "refused", "word", "prefix", "register", "number", "group", "digits", "-", "+", "size", "[", "]", "{", "}", "!", "rel", "ext", "modifier", "bl",
)  # fmt: skip
_STATES = (
    "start", "prefixed", "mnemonic", "operand", "number", "sign", "size", "memory", "term", "displacement", "sum", "closed", "rel", "braces", "free",
)  # fmt: skip
_ENDS = ("mnemonic", "operand", "number", "closed", "free")
_MODIFIERS = frozenset(
    [
        "lsl",
        "lsr",
        "asr",
        "ror",
        "rrx",
        "msl",
        "uxtb",
        "uxth",
        "uxtw",
        "uxtx",
        "sxtb",
        "sxth",
        "sxtw",
        "sxtx",
        "mul",
        "vl",
        "eq",
        "ne",
        "cs",
        "hs",
        "cc",
        "lo",
        "mi",
        "pl",
        "vs",
        "vc",
        "hi",
        "ls",
        "ge",
        "lt",
        "gt",
        "le",
        "al",
        "nv",
        "sy",
        "st",
        "ld",
        "ish",
        "ishst",
        "ishld",
        "nsh",
        "osh",
    ]
)
_PREFIXES = frozenset(
    ["rep", "repe", "repz", "repne", "repnz", "lock", "xacquire", "xrelease", "notrack", "bnd", "data16", "addr32"]
)
_OPERAND = {
    "register": "operand", "number": "number", "-": "sign", "size": "size", "[": "memory", "{": "braces", "rel": "rel", "ext": "operand",
    "modifier": "operand", "bl": "operand",
}  # fmt: skip
_TERM_END = {
    "+": "sum", "-": "sum", "]": "closed", "register": "term", "number": "displacement", "modifier": "term",
}  # fmt: skip
_GRAMMAR: dict[str, dict[str, str]] = {
    "start": {"word": "mnemonic", "modifier": "mnemonic", "bl": "mnemonic", "prefix": "prefixed"},
    "prefixed": {"word": "mnemonic", "prefix": "prefixed"},
    "mnemonic": _OPERAND,
    "operand": _OPERAND,
    "number": {**_OPERAND, "group": "number"},
    "sign": {"digits": "number", "group": "number"},
    "size": {"[": "memory"},
    "memory": {"register": "term", "number": "displacement", "-": "sum", "ext": "term"},
    "term": _TERM_END,
    "displacement": {**_TERM_END, "group": "displacement"},
    "sum": {
        "register": "term", "number": "displacement", "digits": "displacement", "group": "displacement", "ext": "term",
    },
    "closed": {**_OPERAND, "!": "operand"},
    "rel": {"number": "number", "-": "sign"},
    "braces": {
        "register": "braces", "word": "braces", "modifier": "braces", "number": "braces", "group": "braces", "digits": "braces", "-": "braces",
        "}": "operand",
    },
    "free": {name: "free" for name in _CLASSES},
}  # fmt: skip
_GIVEN, _CONTINUED, _FIRST = range(3)  # tables: given tokens, later tokens of a masked span, its first token


@dataclass(frozen=True, eq=False)
class InstructionGrammar(Automaton):
    """The automaton of well-formed instructions, run through each instruction with blanks.

    Attributes:
        next_id: id of ``[NEXT]``.
    """

    next_id: int = -1

    def _span(self, view: StepView, row: int) -> list[Cell]:
        """Return the tokens of each instruction from its first blank on, with the state before it."""
        real = view.canvas.attention_mask[row].nonzero()[:, 0].tolist()
        ids, blank, to_fill = view.ids[row].tolist(), view.blanks[row].tolist(), view.to_fill[row].tolist()
        cells: list[Cell] = []
        instruction: list[int] = []
        for column in [*real, -1]:
            if column >= 0 and (to_fill[column] or ids[column] != self.next_id):
                instruction.append(column)
                continue
            cells += self._instruction(instruction, ids, blank, to_fill)
            instruction = []
        return cells

    def _instruction(
        self, columns: Sequence[int], ids: list[int], blank: list[bool], to_fill: list[bool]
    ) -> list[Cell]:
        """Return the cells of one instruction; none without a blank."""
        first = next((n for n, column in enumerate(columns) if to_fill[column]), None)
        if first is None:
            return []
        state = self.start
        for column in columns[:first]:
            state = self.step(state, ids[column]) if state >= 0 and ids[column] < self._vocab else -1
        cells = [
            Cell(
                column,
                None if blank[column] else ids[column],
                _GIVEN if not to_fill[column] else _FIRST if not to_fill[before] else _CONTINUED,
            )
            for before, column in zip(
                [columns[first - 1] if first else columns[first], *columns[first:]], columns[first:], strict=False
            )
        ]
        if not first:
            cells[0] = cells[0]._replace(table=_FIRST)
        last = max(n for n, cell in enumerate(cells) if to_fill[cell.column])
        free = _STATES.index("free")
        for begin, part in ((state, cells), (state, cells[: last + 1]), (free, cells[: last + 1])):
            if begin >= 0 and self._completes(begin, part):
                return [part[0]._replace(begins=begin), *part[1:]]
        return [cells[0]._replace(begins=free), *cells[1 : last + 1]]

    def _completes(self, begin: int, cells: list[Cell]) -> bool:
        """Return whether some filling leads from a state through the cells to the end of an instruction."""
        states = self.accepting
        for cell in reversed(cells):
            states = self._before(states, cell)
        return bool(states[begin])


def instruction_grammar(tokenizer: Any, one_operand: bool = False) -> InstructionGrammar:
    """Return the constraint of well-formed instructions, for ``make_rules(constraint=…)``.

    Args:
        tokenizer: a trace tokenizer.
        one_operand: True = a masked span is a mnemonic or one operand.

    Raises:
        ValueError: the tokenizer has no ``[NEXT]``.
    """
    next_id = require_next(tokenizer, "The grammar of instructions (--grammar)")
    classes = _classes(tokenizer)
    table = torch.full((len(_STATES), len(_CLASSES)), -1)
    for state, edges in _GRAMMAR.items():
        for name, after in edges.items():
            table[_STATES.index(state), _CLASSES.index(name)] = _STATES.index(after)
    first = table.clone()  # a span never continues a given number
    for state in ("number", "displacement"):
        first[_STATES.index(state), _CLASSES.index("group")] = -1
    continued = table.clone()
    if one_operand:
        for state in ("mnemonic", "operand", "number", "closed"):
            for name in _OPERAND:
                continued[_STATES.index(state), _CLASSES.index(name)] = -1
    special = SpecialIds.of(tokenizer)
    refused = tuple(id for id, number in enumerate(classes) if number == 0)
    return InstructionGrammar(
        table,
        torch.tensor([name in _ENDS for name in _STATES]),
        replace(special, others=tuple({*special.others, *refused} - {special.mask})),
        columns=torch.tensor(classes),
        behind_space=continued,
        at_start=first,
        next_id=next_id,
    )


def _classes(tokenizer: Any) -> list[int]:
    """Return the class of every id, as an index into ``_CLASSES``; a word begins with a space."""
    kinds = [TOKEN_CLASSES[number] for number in TokenClasses(tokenizer).by_id]
    return [
        _CLASSES.index(_class_of(tokenizer.token_text(id), kind)) if kind != "special" else 0
        for id, kind in enumerate(kinds)
    ]


def _class_of(text: str, kind: str) -> str:
    word, spaced = text.strip(), text.startswith(" ")
    if kind == "immediate":
        return "number" if spaced else "group" if len(word) == 3 else "digits"
    if not spaced or not word:
        return "refused"
    if kind == "operator":
        return "-" if word == "-" else "+"
    if word == "bl":  # a register of x86, and the call of AArch64
        return word
    if kind in ("register", "size"):
        return kind
    if kind == "bracket":
        return word if word in _CLASSES else "refused"
    if word in ("rel", "ext"):
        return word
    if not word[0].isalpha() and word[0] != ".":
        return "refused"
    return "prefix" if word in _PREFIXES else "modifier" if word in _MODIFIERS else "word"
