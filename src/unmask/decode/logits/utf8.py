"""UTF-8 as a finite automaton over tokens that are parts of characters.

Eight states: between characters, one to three bytes to come, and four behind lead bytes whose next byte is restricted (Unicode, table
3-7). Tokens that move it alike are one class; class 0 are the tokens of whole characters, which stand between characters only.
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
# States 1 to 3 wait for as many bytes; 4 to 7 stand behind E0, ED, F0, F4: the bytes each takes, and the state after one.
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
    """How classes of tokens move sets of states.

    Attributes:
        class_of: the class of each id that is a part of a character; all others are of class 0.
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
        """The automaton of the tokens with these bytes."""
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
        """By class, whether a token leads from a state of ``start`` to one of ``end``; class 0 alone where none does."""
        found = [bool(step[start] & end) for step in self.after]
        return found if any(found) else [True, *[False] * (len(found) - 1)]

    def step(self, states: int, id: int) -> int:
        """The states after a token, or after a blank (-1). Behind what is no UTF-8, reading starts again between characters."""
        return (self.after_any[states] if id < 0 else self.after[self.class_of.get(id, 0)][states]) or ONLY_BETWEEN

    def ends(self, ids: list[int]) -> list[int]:
        """The states behind each token of a row (-1 = blank) from which the rest of the row can be completed."""
        found = [ONLY_BETWEEN]
        for id in reversed(ids):
            found.append(
                (self.before_any[found[-1]] if id < 0 else self.before[self.class_of.get(id, 0)][found[-1]])
                or ONLY_BETWEEN
            )
        return found[-2::-1]


def _moves(data: bytes) -> tuple[int, ...]:
    """The state after ``data`` from each state; -1 = no UTF-8."""
    found = []
    for state in range(_STATES):
        for byte in data:
            state = _next(state, byte) if state >= 0 else -1
        found.append(state)
    return tuple(found)


def _next(state: int, byte: int) -> int:
    for low, high, after in _LEADS if state == BETWEEN else (_TAILS[state],):
        if low <= byte <= high:
            return after
    return -1


def _union(sets: Iterable[int]) -> int:
    found = 0
    for states in sets:
        found |= states
    return found
