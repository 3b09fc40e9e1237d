"""A regular expression as a finite automaton over characters, with the semantics of ``re``.

Python's own parser reads the pattern, and ``re`` itself decides which characters an atom such as ``[\\x41-\\x5A]`` or ``\\w`` matches, flags
included. So a pattern means what ``re.fullmatch`` means by it. Constructs beyond finite automata are refused:
anchors and boundaries, look-arounds, back-references, possessive repetitions.

    pattern  ->  tree of ``re``  ->  NFA whose transitions read one atom (Thompson 1968)

Shapes: characters are code points; a set of characters is an array of runs ``[R, 2]``, first and one past the last.
"""

from __future__ import annotations

import re
import re._constants as tree
import re._parser as parser
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

MOST_REPEATS = 512
_MOST_STATES = 1 << 16
_LOCAL = re.IGNORECASE | re.ASCII | re.DOTALL  # flags that change which characters an atom matches
_CATEGORIES = {
    tree.CATEGORY_DIGIT: r"\d", tree.CATEGORY_NOT_DIGIT: r"\D", tree.CATEGORY_SPACE: r"\s", tree.CATEGORY_NOT_SPACE: r"\S",
    tree.CATEGORY_WORD: r"\w", tree.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip
_REFUSED = {
    tree.AT: "anchors and boundaries (^, $, \\b) look outside the match, and a pattern matches the whole text without them",
    tree.ASSERT: "a look-around looks outside the match",
    tree.ASSERT_NOT: "a look-around looks outside the match",
    tree.GROUPREF: "a back-reference repeats earlier text, which needs memory",
    tree.GROUPREF_EXISTS: "a condition on a group depends on earlier text, which needs memory",
    tree.POSSESSIVE_REPEAT: "a possessive repetition does not backtrack",
    tree.ATOMIC_GROUP: "an atomic group does not backtrack",
}


@dataclass(frozen=True)
class Atom:
    """A pattern that matches one character: its source and its flags."""

    source: str
    flags: int = 0


@dataclass
class Nfa:
    """States ``0..n-1``; ``end`` accepts. ``free`` transitions read nothing, ``reading`` transitions one character of an atom."""

    free: list[list[int]] = field(default_factory=list)
    reading: list[list[tuple[Atom, int]]] = field(default_factory=list)
    end: int = 0

    def state(self) -> int:
        """Add a state and return its index.

        Raises:
            ValueError: too many states.
        """
        if len(self.free) >= _MOST_STATES:
            raise ValueError(
                f"The pattern is too large: it repeats its parts more than {_MOST_STATES:,} times in all. Shorten it, or lower its counts."
            )
        self.free.append([])
        self.reading.append([])
        return len(self.free) - 1

    def closure(self, states: set[int]) -> frozenset[int]:
        """Return the states reachable by free transitions."""
        reached, todo = set(states), list(states)
        while todo:
            for after in self.free[todo.pop()]:
                if after not in reached:
                    reached.add(after)
                    todo.append(after)
        return frozenset(reached)


def read_pattern(pattern: str) -> tuple[Nfa, int]:
    """Return the automaton of a pattern, and its start state.

    Raises:
        ValueError: a pattern that ``re`` cannot read, or that no finite automaton can match.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of syntax that will change one day
            re.compile(pattern)
            parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"The pattern {pattern!r} cannot be read: {error or type(error).__name__}. Write \\ before a character that means itself, such as \\( for (."
        ) from error
    nfa = Nfa()
    start = nfa.state()
    nfa.end = _Builder(nfa, pattern).sequence(parsed, parsed.state.flags, start)
    return nfa, start


class _Builder:
    """Adds ``re``'s tree to an automaton: from a node and the state before it to the state after it."""

    def __init__(self, nfa: Nfa, pattern: str) -> None:
        self.nfa, self.pattern = nfa, pattern

    def sequence(self, nodes: Any, flags: int, state: int) -> int:
        for operation, argument in nodes:
            state = self._node(operation, argument, flags, state)
        return state

    def _node(self, operation: Any, argument: Any, flags: int, state: int) -> int:
        if operation in (tree.LITERAL, tree.NOT_LITERAL, tree.ANY, tree.IN):
            end = self.nfa.state()
            self.nfa.reading[state].append((Atom(_source(operation, argument), flags & _LOCAL), end))
            return end
        if operation is tree.SUBPATTERN:
            _, added, removed, inner = argument
            return self.sequence(inner, _with(flags, added, removed), state)
        if operation is tree.BRANCH:
            return self._either([partial(self.sequence, part, flags) for part in argument[1]], state)
        if operation in (tree.MAX_REPEAT, tree.MIN_REPEAT):  # greedy and lazy repetitions match the same whole texts
            least, most, inner = argument
            unbounded = most == tree.MAXREPEAT
            if max(int(least), 0 if unbounded else int(most)) > MOST_REPEATS:
                raise ValueError(
                    f"The pattern {self.pattern!r} repeats a part more than {MOST_REPEATS} times: give two numbers from 0 to {MOST_REPEATS}."
                )
            return self._times(
                partial(self.sequence, inner, flags), int(least), None if unbounded else int(most), state
            )
        reason = _REFUSED.get(operation, f"re's {operation} is not supported")
        raise ValueError(
            f"The pattern {self.pattern!r} cannot be used: {reason}. Patterns are made of literals, classes, groups, |, *, +, ? and {{m,n}}; they match the whole text."
        )

    def _either(self, parts: Sequence[Callable[[int], int]], state: int) -> int:
        ends = []
        for part in parts:
            begin = self.nfa.state()
            self.nfa.free[state].append(begin)
            ends.append(part(begin))
        return self._join(ends)

    def _times(self, part: Callable[[int], int], least: int, most: int | None, state: int) -> int:
        for _ in range(least):
            state = part(state)
        if most is None:
            begin = self.nfa.state()
            self.nfa.free[state].append(begin)
            self.nfa.free[part(begin)].append(begin)
            return self._join([begin])
        ends = [state]
        for _ in range(most - least):
            state = part(state)
            ends.append(state)
        return self._join(ends)

    def _join(self, ends: Sequence[int]) -> int:
        end = self.nfa.state()
        for each in ends:
            self.nfa.free[each].append(end)
        return end


def _source(operation: Any, argument: Any) -> str:
    """Return an atom of the tree as a pattern."""
    if operation is tree.ANY:
        return "."
    if operation is tree.LITERAL:
        return _character(argument)
    if operation is tree.NOT_LITERAL:
        return f"[^{_character(argument)}]"
    parts = []
    for kind, part in argument:
        if kind is tree.NEGATE:
            parts.append("^")
        elif kind is tree.LITERAL:
            parts.append(_character(part))
        elif kind is tree.RANGE:
            parts.append(f"{_character(part[0])}-{_character(part[1])}")
        else:
            parts.append(_CATEGORIES[part])
    return f"[{''.join(parts)}]"


def _character(code: int) -> str:
    return f"\\U{code:08x}"


def _with(flags: int, added: int, removed: int) -> int:
    if added & re.ASCII:
        removed |= re.UNICODE
    if added & re.UNICODE:
        removed |= re.ASCII
    return (flags & ~removed) | added


@cache
def _every_character() -> str:
    return "".join(map(chr, range(0x110000)))


@cache
def characters_of(atom: Atom) -> np.ndarray:
    """Return the characters that an atom matches, as runs ``[R, 2]``."""
    runs = [match.span() for match in re.finditer(f"(?:{atom.source})+", _every_character(), atom.flags)]
    return np.array(runs, dtype=np.int64).reshape(-1, 2)
