"""UTF-8 as a finite automaton over tokens that are partial characters.

Eight states: between characters, one to three bytes missing, and four after lead bytes whose next byte is restricted (Unicode, table
3-7). Tokens with equal transitions form a class; class 0 is all tokens of whole characters, which occur between characters only.
Sets of states are the bits of an integer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BETWEEN, _STATES = 0, 8
ONLY_BETWEEN = 1 << BETWEEN
_LEADS = (
    (0x00, 0x7F, 0),
    (0xC2, 0xDF, 1),
    (0xE0, 0xE0, 4),
    (0xED, 0xED, 5),
    (0xE1, 0xEF, 2),
    (0xF0, 0xF0, 6),
    (0xF4, 0xF4, 7),
    (0xF1, 0xF3, 3),
)
# In states 1 to 3 as many bytes are missing; 4 to 7 follow E0, ED, F0, F4: allowed bytes (first, last), and the next state.
_TAILS = {
    1: (0x80, 0xBF, 0),
    2: (0x80, 0xBF, 1),
    3: (0x80, 0xBF, 2),
    4: (0xA0, 0xBF, 1),
    5: (0x80, 0x9F, 1),
    6: (0x90, 0xBF, 2),
    7: (0x80, 0x8F, 2),
}


@dataclass(frozen=True)
class Utf8:
    """Transitions of sets of states by classes of tokens.

    Attributes:
        class_of: the class of each id that is a partial character; all others are of class 0.
        after: by class and set, the states after a token of the class.
        before: by class and set, the states from which a token of the class leads into the set.
        after_any, before_any: by set, the same for a token of any class.
    """

    class_of: dict[int, int]
    after: list[list[int]]
    before: list[list[int]]
    after_any: list[int]
    before_any: list[int]

    @classmethod
    def of(cls, parts: Mapping[int, bytes]) -> Utf8:
        """Return the automaton of tokens with these bytes."""
        moves = {(BETWEEN, *[-1] * (_STATES - 1)): 0}
        class_of = {id: moves.setdefault(_moves(data), len(moves)) for id, data in sorted(parts.items())}
        sets = range(1 << _STATES)
        after = [
            [_union(1 << to for state, to in enumerate(move) if states >> state & 1 and to >= 0) for states in sets]
            for move in moves
        ]
        before = [
            [_union(1 << state for state, to in enumerate(move) if to >= 0 and states >> to & 1) for states in sets]
            for move in moves
        ]
        return cls(
            class_of,
            after,
            before,
            [_union(step[s] for step in after) for s in sets],
            [_union(step[s] for step in before) for s in sets],
        )

    def allowed(self, start: int, end: int) -> list[bool]:
        """Return, by class, whether a token leads from a state of ``start`` to one of ``end``; class 0 alone if none does."""
        leads = [bool(step[start] & end) for step in self.after]
        return leads if any(leads) else [True, *[False] * (len(leads) - 1)]

    def step(self, states: int, id: int) -> int:
        """Return the states after a token, or after a masked position (-1). Invalid UTF-8 resets to between characters."""
        return (self.after_any[states] if id < 0 else self.after[self.class_of.get(id, 0)][states]) or ONLY_BETWEEN

    def ends(self, ids: list[int]) -> list[int]:
        """Return the states after each token of a row (-1 = masked) from which the rest can be completed."""
        ends = [ONLY_BETWEEN]
        for id in reversed(ids):
            ends.append(
                (self.before_any[ends[-1]] if id < 0 else self.before[self.class_of.get(id, 0)][ends[-1]])
                or ONLY_BETWEEN
            )
        return ends[-2::-1]


def _moves(data: bytes) -> tuple[int, ...]:
    """Return the state after ``data`` from each state; -1 = invalid."""
    moves = []
    for state in range(_STATES):
        for byte in data:
            state = _next(state, byte) if state >= 0 else -1
        moves.append(state)
    return tuple(moves)


def _next(state: int, byte: int) -> int:
    for low, high, after in _LEADS if state == BETWEEN else (_TAILS[state],):
        if low <= byte <= high:
            return after
    return -1


def _union(sets: Iterable[int]) -> int:
    union = 0
    for states in sets:
        union |= states
    return union
