"""From a regular expression over text to a finite automaton over token ids.

    pattern  ->  NFA over characters (``pattern``)  ->  table over bytes (``byte_table``)  ->  transitions by whole tokens

The whole text must match, as with ``re.fullmatch``. Tokens are read byte by byte, so a token may be a partial character, and is allowed
only if all of it fits. ``Automaton`` looks ahead through the remaining masked positions.

The bytes of a token depend on the text before it (``Spelling``). There is a table for each of three contexts: after other tokens, after a given
space, and at the start of the text. A layout marks the context of each position (``unmask.decode.logits.automaton``).

Shapes: ``S`` states, ``V`` tokens, ``C`` classes of tokens with equal transitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unmask.contracts import SpecialIds
from unmask.decode.logits.automaton import AT_START, BEHIND_SPACE, INSIDE_WORD, OWN_SPACE, PLAIN, Automaton
from unmask.decode.logits.byte_table import JOINT, SPACE, ByteTable, byte_table
from unmask.decode.logits.pattern import read_pattern
from unmask.decode.logits.spelling import Spelling

_MOST_STATES = 1 << 15


def regex_automaton(pattern: str, texts: Sequence[str | bytes | None] | Spelling, special: SpecialIds) -> Automaton:
    """Return the automaton of token sequences whose whole text matches ``pattern``.

    Every contiguous masked span is matched by itself, independently of the given text.

    Args:
        pattern: a regular expression of ``re``, without anchors, look-arounds, back-references and possessive repetitions.
        texts: the text or bytes of each id, in the order of ids; None = never placed. Or a ``Spelling``.
        special: ids that are never placed.

    Raises:
        ValueError: a pattern that is malformed, not regular or too large, or that no tokens can write.
    """
    spelling = texts if isinstance(texts, Spelling) else Spelling.of(texts)
    nfa, start = read_pattern(pattern)
    spaced = nfa.state()
    nfa.reading[spaced].append((SPACE, start))
    table = byte_table(
        nfa,
        [(start, False), (start, True), (spaced, False)],
        spelling.words if spelling.continues is not None else None,
        pattern,
    )
    plain, in_word, spaced = table.starts
    if np.flatnonzero(table.moves[plain, :JOINT] >= 0).tolist() == [0x20]:
        spaced = plain  # a leading space of the pattern is the given one
    if spelling.continues is not None:  # at the start of a text, no token continues a word
        table = _only(table, JOINT, plain)
        plain = len(table.moves) - 1
    places = [_Tokens(symbols) for symbols in _symbols(spelling)]
    starts = {PLAIN: plain, AT_START: plain, BEHIND_SPACE: spaced, OWN_SPACE: spaced, INSIDE_WORD: in_word}
    automaton = _read(table, places, sorted({*starts.values()}), starts, special, pattern)
    if not any(automaton.possible_from(code) for code in starts):
        raise ValueError(
            f"No sequence of this tokenizer's tokens matches the pattern {pattern!r}: check it for characters that the tokenizer cannot write."
        )
    return automaton


def _only(table: ByteTable, symbol: int, state: int) -> ByteTable:
    """Return the table with one more state, whose only transition is that of ``state`` by ``symbol``."""
    row = np.full((1, table.moves.shape[1]), -1, dtype=np.int32)
    row[0, symbol] = table.moves[state, symbol]
    return ByteTable(np.concatenate([table.moves, row]), np.append(table.accepting, False), table.starts)


def _symbols(spelling: Spelling) -> list[list[list[int] | None]]:
    """Return the symbols of each token after others, after a given space, and at the start; None = never placed there."""
    joined: list[list[int] | None] = [list(part) if part else None for part in spelling.behind]
    starts: list[list[int] | None] = [list(part) if part else None for part in spelling.at_start]
    if spelling.continues is not None:
        joined = [
            None if part is None else part if inner else [JOINT, *part]
            for part, inner in zip(joined, spelling.continues, strict=True)
        ]
        starts = joined
    # A token that is a single space writes nothing after a given space: it stands for that space.
    spaced = [
        [0x20, *part] if part is not None and data else None
        for part, data in zip(spelling.behind_space, spelling.behind, strict=True)
    ]
    return [joined, spaced, starts]


class _Tokens:
    """Tokens as sequences of symbols, sorted by the first one."""

    def __init__(self, symbols: Sequence[list[int] | None]) -> None:
        self.lengths = np.array([len(s or ()) for s in symbols], dtype=np.int64)
        self.offsets = np.cumsum(self.lengths) - self.lengths
        self.flat = np.array([x for s in symbols for x in s or ()], dtype=np.int64)
        written = np.flatnonzero(self.lengths)
        first = self.flat[self.offsets[written]]
        order = np.argsort(first, kind="stable")
        self.by_first = written[order]
        self.bounds = np.searchsorted(first[order], np.arange(JOINT + 2))

    def read(self, moves: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the transitions of every token that fits: index into ``states``, token, target state."""
        fits = moves[states] >= 0
        count = np.diff(self.bounds)
        pieces = [(n, symbol) for n, symbol in zip(*np.nonzero(fits & (count > 0)), strict=True)]
        if not pieces:
            return (np.empty(0, np.int64),) * 3
        token = np.concatenate([self.by_first[self.bounds[symbol] : self.bounds[symbol + 1]] for _, symbol in pieces])
        sizes = [count[symbol] for _, symbol in pieces]
        origin = np.repeat([n for n, _ in pieces], sizes)
        state = np.repeat([moves[states[n], symbol] for n, symbol in pieces], sizes).astype(np.int64)
        done, depth = [], 1
        while len(token):
            ends = self.lengths[token] == depth
            done.append((origin[ends], token[ends], state[ends]))
            origin, token, state = origin[~ends], token[~ends], state[~ends]
            state = moves[state, self.flat[self.offsets[token] + depth]].astype(np.int64)
            alive = state >= 0
            origin, token, state = origin[alive], token[alive], state[alive]
            depth += 1
        return tuple(np.concatenate(parts) for parts in zip(*done, strict=True))  # type: ignore[return-value]


def _read(
    table: ByteTable,
    places: Sequence[_Tokens],
    begin: list[int],
    starts: dict[int, int],
    special: SpecialIds,
    pattern: str,
) -> Automaton:
    """Return the automaton over ids: its states are the table's states at the ends of tokens."""
    number = {state: n for n, state in enumerate(begin)}
    todo = np.array(begin)
    pieces: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in places]
    while len(todo):
        for place, tokens in enumerate(places):
            origin, token, to = tokens.read(table.moves, todo)
            pieces[place].append((todo[origin], token, to))
        reached = np.unique(np.concatenate([moves[-1][2] for moves in pieces]))
        todo = np.array([state for state in reached.tolist() if state not in number], dtype=np.int64)
        number |= {state: len(number) + n for n, state in enumerate(todo.tolist())}
        if len(number) > _MOST_STATES:
            raise ValueError(
                f"The pattern {pattern!r} needs more than {_MOST_STATES:,} states over tokens: write smaller classes, such as [a-z] for \\w."
            )
    renamed = np.full(len(table.moves), -1, dtype=np.int64)
    renamed[list(number)] = list(number.values())
    moves = [tuple(np.concatenate(parts) for parts in zip(*of_place, strict=True)) for of_place in pieces]
    columns, representatives = _classes(moves, len(places[0].lengths), renamed)
    tables = np.full((len(places), len(number), len(representatives)), -1, dtype=np.int32)
    stands_for = np.full(len(columns), -1)
    stands_for[representatives] = np.arange(len(representatives))
    for place, (origin, token, to) in enumerate(moves):
        kept = stands_for[token] >= 0
        tables[place, renamed[origin[kept]], stands_for[token[kept]]] = renamed[to[kept]]
    return Automaton(
        torch.from_numpy(tables[0]),
        torch.from_numpy(table.accepting[list(number)]),
        special,
        start=number[starts[PLAIN]],
        each_run=True,
        columns=torch.from_numpy(columns),
        behind_space=torch.from_numpy(tables[1]),
        at_start=torch.from_numpy(tables[2]),
        starts={code: number[state] for code, state in starts.items()},
    )


def _classes(moves: Sequence[tuple[np.ndarray, ...]], vocab: int, renamed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each token, and one token per class: tokens of a class have equal transitions in every context."""
    draw = np.random.default_rng(0)
    sums = np.zeros(vocab, dtype=np.uint64)
    for origin, token, to in moves:
        one, two = (draw.integers(1, 2**63, len(renamed), dtype=np.uint64) for _ in range(2))
        np.add.at(sums, token, one[origin] * (two[to] | np.uint64(1)))
    _, representatives, columns = np.unique(sums, return_index=True, return_inverse=True)
    return columns.reshape(-1), representatives
