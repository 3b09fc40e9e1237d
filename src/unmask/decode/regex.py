"""From a regular expression over text to a finite automaton over token ids.

    pattern  ->  tree  ->  NFA over characters (Thompson)  ->  DFA over classes of characters  ->  read every token through it

The whole text must match, as with ``re.fullmatch``. A token is read character by character and allowed only where all of it fits;
``Automaton`` looks ahead through the blanks that remain.

    literals  .  [a-z] [^,]  \\d \\w \\s \\D \\W \\S \\n \\t  ( ) (?: )  |  *  +  ?  {m} {m,} {m,n}

Shapes: ``S`` states, ``V`` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.constraints import Automaton

Fits = Callable[[str], bool]
_MOST_STATES = 512
_KINDS: dict[str, Fits] = {"d": str.isdecimal, "w": lambda c: c.isalnum() or c == "_", "s": str.isspace}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}


def regex_automaton(pattern: str, texts: Sequence[str | None], special: SpecialIds) -> Automaton:
    """The automaton that accepts the token sequences whose text matches ``pattern`` whole.

    Every run of blanks is matched by itself, whatever is given around it.

    Args:
        pattern: a regular expression of the subset above.
        texts: what each id writes, in the order of ids; None = never placed (part of a character).
        special: ids that are never placed.

    Raises:
        ValueError: a pattern that is malformed, beyond the subset or too large, or that no tokens can write.
    """
    nfa = _Parser(pattern).parse()
    alphabet = sorted({c for text in texts if text for c in text})
    moves, accepting = _determinise(nfa, alphabet, pattern)
    transitions = _read_tokens(moves, alphabet, texts)
    automaton = Automaton(transitions, torch.tensor(accepting), special, each_run=True)
    if not automaton.possible:
        raise ValueError(f"No sequence of this tokenizer's tokens matches the pattern {pattern!r}: look for characters it cannot write.")
    return automaton


@dataclass
class _Nfa:
    """States ``0..n-1``, from ``start`` to ``end``; ``free`` moves read nothing, ``reading`` moves one character that fits."""

    free: list[list[int]] = field(default_factory=list)
    reading: list[list[tuple[Fits, int]]] = field(default_factory=list)
    start = end = 0

    def state(self) -> int:
        self.free.append([])
        self.reading.append([])
        return len(self.free) - 1

    def closure(self, states: set[int]) -> frozenset[int]:
        reached, todo = set(states), list(states)
        while todo:
            for after in self.free[todo.pop()]:
                if after not in reached:
                    reached.add(after)
                    todo.append(after)
        return frozenset(reached)


Part = Callable[[_Nfa, int], int]  # adds itself to an NFA behind a state, and says where it ends


class _Parser:
    """Recursive descent: alternatives of sequences of repeated atoms."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    def parse(self) -> _Nfa:
        part = self._alternatives()
        if self.at < len(self.pattern):
            raise self._error("closes a group that was not opened")
        nfa = _Nfa()
        nfa.start = nfa.state()
        nfa.end = part(nfa, nfa.start)
        return nfa

    def _error(self, what: str) -> ValueError:
        found = repr(self.pattern[self.at]) if self.at < len(self.pattern) else "the end"
        return ValueError(
            f"The pattern {self.pattern!r} cannot be read: {found} at position {self.at} {what}. Patterns are made of literals, ., [a-z], "
            "[^,], \\d \\w \\s, groups, |, *, +, ?, {m,n}; they match the whole text, so ^ and $ are not needed. Write \\ before a "
            "character that means itself."
        )

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self, what: str) -> bool:
        if not self.pattern.startswith(what, self.at):
            return False
        self.at += len(what)
        return True

    def _alternatives(self) -> Part:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _either(parts)

    def _sequence(self) -> Part:
        parts = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return _one_after_another(parts)

    def _atom(self) -> Part:
        if self._take("("):
            if self._peek() == "?" and not self._take("?:"):
                raise self._error("begins a look-around or a named group, which are beyond a finite automaton's front end")
            part = self._alternatives()
            if not self._take(")"):
                raise self._error("was reached in an open group")
            return part
        if self._peek() in tuple("*+?{}^$"):
            raise self._error("means something only after a character" if self._peek() not in ("^", "$") else "is an anchor")
        if self._take("["):
            return _one_of(self._class())
        if self._take("."):
            return _one_of(lambda c: c != "\n")
        return _one_of(self._character())

    def _character(self) -> Fits:
        if not self._peek():
            raise self._error("is where a character was expected")
        if not self._take("\\"):
            self.at += 1
            literal = self.pattern[self.at - 1]
            return lambda c: c == literal
        kind = self._peek()
        if kind.lower() in _KINDS:
            fits = _KINDS[kind.lower()]
            self.at += 1
            return fits if kind.islower() else lambda c: not fits(c)
        if not kind or (kind.isalnum() and kind not in _CONTROLS):
            raise self._error("follows \\ and is no escape known here (a back-reference or boundary, perhaps)")
        self.at += 1
        meant = _CONTROLS.get(kind, kind)
        return lambda c: c == meant

    def _class(self) -> Fits:
        inverted = self._take("^")
        parts: list[Fits] = []
        while not self._take("]") or not parts:
            if not self._peek():
                raise self._error("was reached in an open [ ]")
            first, begin = self._character(), self.at
            low = self.pattern[begin - 1]
            if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("", "]"):
                self.at += 1
                self._character()
                high = self.pattern[self.at - 1]
                if high < low:
                    raise self._error(f"follows the range {low}-{high}, which runs backwards")
                parts.append(lambda c, low=low, high=high: low <= c <= high)  # type: ignore[misc]
            else:
                parts.append(first)
        return lambda c: any(fits(c) for fits in parts) != inverted

    def _repeated(self, part: Part) -> Part:
        while True:
            if self._take("*"):
                least, most = 0, None
            elif self._take("+"):
                least, most = 1, None
            elif self._take("?"):
                least, most = 0, 1
            elif self._take("{"):
                least, most = self._bounds()
            else:
                return part
            if self._peek() in tuple("?+*{"):
                raise self._error("follows a repetition; whether it is lazy or greedy makes no difference to what matches, so leave it out")
            part = _times(part, least, most)

    def _bounds(self) -> tuple[int, int | None]:
        inside, closed, _ = self.pattern[self.at :].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not low.isdecimal() or (high and not high.isdecimal()):
            raise self._error("does not read as {m}, {m,} or {m,n}")
        least, most = int(low), (int(high) if high else None) if comma else int(low)
        if max(least, most or 0) > _MOST_STATES or (most is not None and most < least):
            raise self._error(f"repeats {inside} times: give two numbers from 0 to {_MOST_STATES}, the smaller first")
        self.at += len(inside) + 1
        return least, most


def _one_of(fits: Fits) -> Part:
    def add(nfa: _Nfa, start: int) -> int:
        end = nfa.state()
        nfa.reading[start].append((fits, end))
        return end

    return add


def _one_after_another(parts: Sequence[Part]) -> Part:
    def add(nfa: _Nfa, start: int) -> int:
        for part in parts:
            start = part(nfa, start)
        return start

    return add


def _either(parts: Sequence[Part]) -> Part:
    def add(nfa: _Nfa, start: int) -> int:
        ends = []
        for part in parts:
            begin = nfa.state()
            nfa.free[start].append(begin)
            ends.append(part(nfa, begin))
        end = nfa.state()
        for each in ends:
            nfa.free[each].append(end)
        return end

    return add


def _times(part: Part, least: int, most: int | None) -> Part:
    def add(nfa: _Nfa, start: int) -> int:
        for _ in range(least):
            start = part(nfa, start)
        if most is None:
            begin = nfa.state()
            nfa.free[start].append(begin)
            nfa.free[part(nfa, begin)].append(begin)
            end = nfa.state()
            nfa.free[begin].append(end)
            return end
        ends = [start]
        for _ in range(most - least):
            start = part(nfa, start)
            ends.append(start)
        end = nfa.state()
        for each in ends:
            nfa.free[each].append(end)
        return end

    return add


def _determinise(nfa: _Nfa, alphabet: Sequence[str], pattern: str) -> tuple[list[list[int]], list[bool]]:
    """Moves ``[S][characters]`` (-1 = none) and accepting flags, by sets of states; characters that fit alike move alike."""
    conditions = {id(fits): fits for moves in nfa.reading for fits, _ in moves}
    likeness = [tuple(fits(c) for fits in conditions.values()) for c in alphabet]
    kinds = {alike: n for n, alike in enumerate(dict.fromkeys(likeness))}
    number = {key: n for n, key in enumerate(conditions)}
    sets = [nfa.closure({nfa.start})]
    index, table = {sets[0]: 0}, []
    for states in sets:  # grows as it is read
        row = []
        for alike in kinds:
            after = nfa.closure({end for s in states for fits, end in nfa.reading[s] if alike[number[id(fits)]]})
            if after and after not in index:
                index[after] = len(sets)
                sets.append(after)
                if len(sets) > _MOST_STATES:
                    raise ValueError(f"The pattern {pattern!r} needs more than {_MOST_STATES} states: shorten it, or lower its counts.")
            row.append(index[after] if after else -1)
        table.append(row)
    return [[row[kinds[alike]] for alike in likeness] for row in table], [nfa.end in states for states in sets]


def _read_tokens(moves: list[list[int]], alphabet: Sequence[str], texts: Sequence[str | None]) -> Int[Tensor, "states vocab"]:
    """The state after each token, from each state; -1 = does not fit. A token that writes nothing is never placed."""
    place = {c: n for n, c in enumerate(alphabet)}
    dead = len(moves)
    stay = len(alphabet)  # a move past the end of a token, which changes nothing
    table = torch.tensor([[dead if m < 0 else m for m in row] + [n] for n, row in enumerate([*moves, [-1] * stay])])
    longest = max(len(text or "") for text in texts)
    letters = torch.tensor([[place[c] for c in text or ""] + [stay] * (longest - len(text or "")) for text in texts])
    state = torch.arange(dead)[:, None].expand(-1, len(texts))
    for column in letters.unbind(1):
        state = table[state, column]
    written = torch.tensor([bool(text) for text in texts])
    return torch.where((state == dead) | ~written, -1, state)
