"""From an automaton over characters to one over the bytes of UTF-8.

    NFA  ->  DFA over kinds of characters (sets of states)  ->  transitions by byte for every state, also within characters

A character of several bytes passes through intermediate states, one after each byte but the last; equal ones are
merged. Beside the 256 bytes there is one more symbol, ``JOINT``. If tokens are words, it separates two of them, and reads a space only
if they would otherwise form one word.

Shapes: ``S`` states; ``K`` kinds of characters; a table ``[S, 257]`` of states, -1 = no transition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unmask.decode.logits.pattern import Atom, Nfa, characters_of

JOINT = 256
SPACE = Atom(r"\ ")
MOST_STATES = 512
_MOST_ROWS = 1 << 17
_LAST = 0x110000


@dataclass(frozen=True)
class ByteTable:
    """Transitions by bytes.

    Attributes:
        moves: int32 ``[S, 257]``.
        accepting: bool ``[S]``.
        starts: the state of each requested start.
    """

    moves: np.ndarray
    accepting: np.ndarray
    starts: list[int]


def byte_table(nfa: Nfa, starts: Sequence[tuple[int, bool]], words: np.ndarray | None, pattern: str) -> ByteTable:
    """Return the table of an automaton.

    Args:
        nfa: over characters.
        starts: start states, and whether the text before ends inside a word.
        words: runs ``[R, 2]`` of the characters that join two tokens into one word; None if tokens contain their spaces.
        pattern: for error messages.

    Raises:
        ValueError: the pattern needs too many states.
    """
    atoms = list(dict.fromkeys([SPACE, *(atom for moves in nfa.reading for atom, _ in moves)]))
    kinds, bounds, kind_of_run = _kinds([*map(characters_of, atoms), *([] if words is None else [words])])
    number = {atom: n for n, atom in enumerate(atoms)}
    inside = np.zeros(len(kinds), dtype=bool) if words is None else kinds[:, -1]
    states = _Determinised(nfa, number, kinds, inside, pattern)
    begun = [states.of(nfa.closure({state}), in_word) for state, in_word in starts]
    states.complete()
    return _Bytes(np.array(states.rows, dtype=np.int32).reshape(-1, len(kinds)), bounds, kind_of_run, pattern).table(
        [nfa.end in members for members, _ in states.index],
        begun,
        [
            int(row[states.space]) if in_word else n
            for n, ((_, in_word), row) in enumerate(zip(states.index, states.rows, strict=True))
        ],
    )


def _kinds(sets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the membership of each kind in each set ``[K, sets]``, the starts of runs of one kind, and the kind of each run."""
    bounds = np.unique(np.concatenate([[0, 0xD800, 0xE000, _LAST], *(runs.flatten() for runs in sets)]))
    first = bounds[:-1]
    member = np.stack([np.searchsorted(runs.flatten(), first, side="right") % 2 == 1 for runs in sets], axis=1)
    kinds, kind_of_run = np.unique(member, axis=0, return_inverse=True)
    return kinds, bounds, kind_of_run.reshape(-1)


@dataclass
class _Determinised:
    """The subset construction: a state is a set of states and whether the last character was part of a word."""

    nfa: Nfa
    number: dict[Atom, int]
    kinds: np.ndarray
    inside: np.ndarray
    pattern: str
    index: dict[tuple[frozenset[int], bool], int] = field(default_factory=dict)
    rows: list[list[int]] = field(default_factory=list)

    @property
    def space(self) -> int:
        """The kind of the space character."""
        return int(np.flatnonzero(self.kinds[:, 0])[0])

    def of(self, states: frozenset[int], in_word: bool) -> int:
        """Return the index of a set of states, adding it if new."""
        key = states, in_word
        if key not in self.index:
            if len(self.index) >= MOST_STATES * (1 + bool(self.inside.any())):
                raise ValueError(
                    f"The pattern {self.pattern!r} needs more than {MOST_STATES} states: shorten it, or lower its counts."
                )
            self.index[key] = len(self.index)
        return self.index[key]

    def complete(self) -> None:
        """Compute the transitions of all reachable sets."""
        known = self.kinds.tolist()
        while len(self.rows) < len(self.index):
            states, _ = list(self.index)[len(self.rows)]
            moves = [(self.number[atom], end) for state in states for atom, end in self.nfa.reading[state]]
            row = []
            for kind, inside in zip(known, self.inside.tolist(), strict=True):
                after = {end for atom, end in moves if kind[atom]}
                row.append(self.of(self.nfa.closure(after), inside) if after else -1)
            self.rows.append(row)


class _Bytes:
    """Expands characters into bytes: a block is the 64 characters that differ in their last byte only."""

    def __init__(self, moves: np.ndarray, bounds: np.ndarray, kind_of_run: np.ndarray, pattern: str) -> None:
        self.pattern = pattern
        kinds = moves.shape[1]
        padded = np.concatenate([moves, np.full((len(moves), 1), -1, np.int32)], axis=1)  # kind K: no character
        kind = np.repeat(kind_of_run, np.diff(bounds))
        kind[0xD800:0xE000] = kinds
        self.moves, self.ascii = padded, kind[:128]
        blocks = kind.reshape(-1, 64)
        mixed = (blocks.astype(np.uint64) * np.random.default_rng(0).integers(1, 2**63, 64, dtype=np.uint64)).sum(1)
        _, first, self.block = np.unique(mixed, return_index=True, return_inverse=True)
        self.contents = blocks[first]
        self.inner: dict[bytes, int] = {}
        self.rows: list[np.ndarray] = []

    def table(self, accepting: list[bool], starts: list[int], joints: list[int]) -> ByteTable:
        """Return the table over bytes."""
        states = len(self.moves)
        outer = np.full((states, 257), -1, dtype=np.int32)
        for state, moves in enumerate(self.moves):
            row = outer[state]
            row[:128] = moves[self.ascii]
            ends = self._states(moves[self.contents])[self.block]  # (17408,), by all bytes of a character but the last
            row[0xC2:0xE0] = ends[2:32]
            three = ends[:1024].reshape(16, 64).copy()
            three[0, :32] = -1  # overlong encodings
            row[0xE0:0xF0] = self._states(three)
            four = np.full((5, 64, 64), -1, dtype=np.int32)
            four.reshape(-1)[: len(ends)] = ends
            four[0, :16] = -1
            row[0xF0:0xF5] = self._states(self._states(four.reshape(-1, 64)).reshape(5, 64))
            row[JOINT] = joints[state]
        moves = np.full((states + len(self.rows), 257), -1, dtype=np.int32)
        moves[:states] = outer
        if self.rows:
            moves[states:, 0x80:0xC0] = np.stack(self.rows)
        ends_here = np.zeros(len(moves), dtype=bool)
        ends_here[:states] = accepting
        return ByteTable(moves, ends_here, starts)

    def _states(self, rows: np.ndarray) -> np.ndarray:
        """Return the intermediate states whose transitions by the bytes 80 to BF are ``rows [n, 64]``."""
        numbers = np.empty(len(rows), dtype=np.int32)
        for n, row in enumerate(np.ascontiguousarray(rows, dtype=np.int32)):
            key = row.tobytes()
            if key not in self.inner:
                dead = not (row >= 0).any()
                if not dead and len(self.moves) + len(self.rows) >= _MOST_ROWS:
                    raise ValueError(
                        f"The pattern {self.pattern!r} needs more than {_MOST_ROWS:,} states over bytes: write smaller classes, such as [a-z] for \\w."
                    )
                self.inner[key] = -1 if dead else len(self.moves) + len(self.rows)
                if not dead:
                    self.rows.append(row.copy())
            numbers[n] = self.inner[key]
        return numbers
