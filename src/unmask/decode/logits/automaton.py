"""``Automaton``: the tokens from the first masked position on must be accepted by a finite automaton.

The automaton looks ahead through the remaining masked positions: a token is allowed only if the rest can still be completed. A
pattern that fits the row at all is therefore always completed.

A layout describes the text before each masked position, which ids alone do not show. It is int64 codes ``[B, L]``:

    PLAIN          the token follows the tokens before it
    BEHIND_SPACE   the token follows a given space, and does not write it again
    OWN_SPACE      the tokens must write a space themselves, since the mask token replaced it
    AT_START       the text begins here
    INSIDE_WORD    the token follows the end of a word, which it may continue
    SILENT         a given token between two masked positions: a space that is counted already

Shapes: ``[N, V]`` over a mask ``where [b, L]``, row-major; ``S`` states, ``C`` classes of ids with equal transitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.logits.sampler import Tokens
from unmask.decode.reads import Reads
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits

PLAIN, BEHIND_SPACE, OWN_SPACE, AT_START, INSIDE_WORD, SILENT = range(6)
_TABLE_OF = {BEHIND_SPACE: 1, AT_START: 2}  # index of the transition table of a code; 0 for the other codes


class Cell(NamedTuple):
    """One token of a span.

    Attributes:
        column: of the canvas.
        token: the id; None = masked.
        table: index of its transition table.
        begins: the state in which a new run begins here, or None.
    """

    column: int
    token: int | None
    table: int = 0
    begins: int | None = None


@dataclass(frozen=True, eq=False)
class Automaton:
    """A deterministic finite automaton over token ids, run from each row's first masked position to its last real token.

    Special ids, EOS included, are never placed: the automaton decides where the text ends. Given tokens inside the
    span are read too. Logits processors and filters act on the ids that the automaton allows.

    Attributes:
        transitions: ``[S, C]``, the state after an id of each class; -1 = not allowed.
        accepting: bool ``[S]``, the states in which a row may end.
        special: ids that are never placed.
        start: the first state.
        each_run: True reads every contiguous masked span by itself, from a start state to an accepting state, and skips given
            tokens.
        columns: int64 ``[V]``, the class of each id; None = one class per id.
        behind_space, at_start: ``[S, C]``, transitions for positions with these layout codes; None = the same.
        starts: start state by the layout code of a span's first position; ``start`` for other codes.
        layout: int64 codes ``[B, L]`` over the caller's batch (or ``[1, L]`` for all rows); None = ``PLAIN`` throughout.

    Raises:
        ValueError: sizes that do not agree.
    """

    transitions: Int[Tensor, "states classes"]
    accepting: Bool[Tensor, " states"]
    special: SpecialIds
    start: int = 0
    each_run: bool = False
    columns: Int[Tensor, " vocab"] | None = None
    behind_space: Int[Tensor, "states classes"] | None = None
    at_start: Int[Tensor, "states classes"] | None = None
    starts: Mapping[int, int] = field(default_factory=dict)
    layout: Int[Tensor, "batch seq"] | None = None
    reads: ClassVar[Reads] = Reads.NOTHING

    def __post_init__(self) -> None:
        states = len(self.transitions)
        if len(self.accepting) != states or not 0 <= self.start < states or int(self.transitions.max()) >= states:
            raise ValueError(
                f"An automaton of {states} states needs transitions to states below {states} (or -1), one accepting flag per "
                f"state (got {len(self.accepting)}) and a start among them (got {self.start})."
            )

    @classmethod
    def requiring(cls, ids: Sequence[int], special: SpecialIds) -> Automaton:
        """Return the automaton of rows that contain each of ``ids`` at least once. States are the sets seen so far (``2 ** len(ids)``).

        Raises:
            ValueError: more than ten ids, or one that is special or beyond the vocabulary.
        """
        ids = list(dict.fromkeys(ids))
        wrong = [i for i in ids if i in special.all or not 0 <= i < special.vocab_size]
        if wrong or len(ids) > 10:
            raise ValueError(
                f"Up to ten ordinary ids can be required; got {len(ids)}, of which {wrong} are special or unknown."
            )
        states = torch.arange(2 ** len(ids))
        columns = torch.zeros(special.vocab_size, dtype=torch.int64)  # class 0: ids that are not required
        columns[list(ids)] = torch.arange(1, len(ids) + 1)
        transitions = torch.stack([states, *(states | (1 << bit) for bit in range(len(ids)))], dim=1)
        return cls(transitions, states == len(states) - 1, special, columns=columns)

    @classmethod
    def pattern(cls, allowed: Sequence[Sequence[int]], special: SpecialIds) -> Automaton:
        """Return the automaton of exactly ``len(allowed)`` tokens from the first masked position on, each from its own set of ids."""
        transitions = torch.full((len(allowed) + 1, special.vocab_size), -1)
        for state, ids in enumerate(allowed):
            transitions[state, list(ids)] = state + 1
        return cls(transitions, torch.arange(len(allowed) + 1) == len(allowed), special)

    @property
    def possible(self) -> bool:
        """True if some sequence of tokens is accepted."""
        return self.possible_from(PLAIN)

    def possible_from(self, code: int) -> bool:
        """Return whether some sequence of tokens is accepted in a span whose first position has this code."""
        reached = self._after(self._only(self._start(code)), None, _TABLE_OF.get(code, 0))
        while not bool((reached & self.accepting).any()):
            more = reached | self._after(reached, None, 0)
            if bool((more == reached).all()):
                return False
            reached = more
        return True

    def accepts_length(self, tokens: int) -> bool:
        """Return whether some sequence of exactly this many tokens is accepted."""
        return self.accepts([PLAIN] * tokens)

    def accepts(self, codes: Sequence[int]) -> bool:
        """Return whether some filling of a span with these codes is accepted."""
        reached = self._only(self._start(codes[0]) if len(codes) else self.start)
        for code in codes:
            reached = self._after(reached, None, _TABLE_OF.get(code, 0))
        return bool((reached & self.accepting).any())

    def step(self, state: int, token: int, code: int = PLAIN) -> int:
        """Return the state after one id; -1 = not allowed."""
        return int(self._tables[_TABLE_OF.get(code, 0)][state, self._column(token)])

    @cached_property
    def _tables(self) -> list[Int[Tensor, "states classes"]]:
        return [
            self.transitions,
            *(self.transitions if table is None else table for table in (self.behind_space, self.at_start)),
        ]

    @cached_property
    def _vocab(self) -> int:
        return self.transitions.shape[1] if self.columns is None else len(self.columns)

    def _column(self, token: int) -> int:
        return token if self.columns is None else int(self.columns[token])

    @cached_property
    def _edges(self) -> list[tuple[Int[Tensor, " edges"], Int[Tensor, " edges"]]]:
        """Per table, the pairs of states (from, to) with a transition by some allowed id."""
        allowed = torch.ones(self._vocab, dtype=torch.bool)
        allowed[[i for i in self.special.all if i < self._vocab]] = False
        classes = (
            allowed
            if self.columns is None
            else torch.bincount(self.columns[allowed], minlength=self.transitions.shape[1]) > 0
        )
        edges = []
        for table in self._tables:
            begin, column = ((table >= 0) & classes).nonzero(as_tuple=True)
            pairs = torch.unique(begin * len(table) + table[begin, column])
            edges.append((pairs // len(table), pairs % len(table)))
        return edges

    def _only(self, state: int) -> Bool[Tensor, " states"]:
        return torch.arange(len(self.accepting)) == state

    def _start(self, code: int) -> int:
        return self.starts.get(code, self.start)

    def _after(self, states: Bool[Tensor, " states"], token: int | None, table: int) -> Bool[Tensor, " states"]:
        """Return the states after one more token; None = any token."""
        after = torch.zeros_like(states)
        if token is None:
            begin, end = self._edges[table]
            after[end[states[begin]]] = True
        elif token < self._vocab:
            reached = self._tables[table][states, self._column(token)]
            after[reached[reached >= 0].long()] = True
        return after

    def _before(self, states: Bool[Tensor, " states"], cell: Cell) -> Bool[Tensor, " states"]:
        """Return the states from which one more token leads into ``states``."""
        before = torch.zeros_like(states)
        if cell.token is None:
            begin, end = self._edges[cell.table]
            before[begin[states[end]]] = True
        elif cell.token < self._vocab:
            reached = self._tables[cell.table][:, self._column(cell.token)]
            before = (reached >= 0) & states[reached.clamp(min=0).long()]
        # A new run begins here, so the state before it must be accepting.
        return before if cell.begins is None else self.accepting & before[cell.begins]

    def _span(self, view: StepView, row: int) -> list[Cell]:
        """Return the tokens to read, from the first masked position on."""
        real = view.canvas.attention_mask[row].nonzero()[:, 0].tolist()
        first = int(view.to_fill[row].long().argmax())
        ids, blank, to_fill = view.ids[row].tolist(), view.blanks[row].tolist(), view.to_fill[row].tolist()
        codes = None
        if self.layout is not None:
            codes = self.layout[int(view.rows[row]) if len(self.layout) > 1 else 0].tolist()
        cells: list[Cell] = []
        fresh = True
        for column in real:
            code = PLAIN if codes is None else codes[column]
            if column < first or (self.each_run and not to_fill[column]):
                fresh = fresh or code != SILENT
                continue
            begins = self._start(code) if fresh and (self.each_run or not cells) else None
            cells.append(Cell(column, None if blank[column] else ids[column], _TABLE_OF.get(code, 0), begins))
            fresh = False
        return cells

    def _row(self, view: StepView, row: int) -> tuple[list[Cell], list[Bool[Tensor, " states"]]]:
        """Return the span and, after each of its tokens, the states from which the rest can be accepted."""
        cells = self._span(view, row)
        future = [self.accepting]
        for cell in reversed(cells):
            future.append(self._before(future[-1], cell))
        future.reverse()
        if not bool((future[0] & self.accepting).any()):
            raise ValueError(
                f"The automaton accepts no filling of row {int(view.rows[row])}: {sum(c.token is None for c in cells)} blanks in "
                f"{len(cells)} tokens. Check the row's length and its given tokens against the pattern."
            )
        return cells, future[1:]

    def _allowed(
        self, states: Bool[Tensor, " states"], future: Bool[Tensor, " states"], table: int, vocab: int
    ) -> Bool[Tensor, " vocab"]:
        """Return the ids that lead from ``states`` to a state from which the rest can be accepted."""
        reached = self._tables[table][states]
        known = ((reached >= 0) & future[reached.clamp(min=0).long()]).any(0)
        known = known if self.columns is None else known[self.columns]
        allowed = torch.zeros(vocab, dtype=torch.bool)
        allowed[: len(known)] = known[:vocab]
        allowed[[i for i in self.special.all if i < vocab]] = False
        return allowed

    def restrict(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        chosen = where.cpu()
        allowed = []
        for row in range(len(view.rows)):
            cells, future = self._row(view, row)
            states = self.accepting
            for cell, rest in zip(cells, future, strict=True):
                states = states if cell.begins is None else self._only(cell.begins)
                if chosen[row, cell.column]:
                    allowed.append(self._allowed(states, rest, cell.table, logits.shape[-1]))
                states = self._after(states, cell.token, cell.table)
        return logits.masked_fill(~torch.stack(allowed).to(logits.device), -torch.inf) if allowed else logits

    def draw(
        self,
        tokens: Tokens,
        log_probs: LogProbs,
        uniforms: Float[Tensor, " scored"],
        view: StepView,
        where: Bool[Tensor, "rows seq"],
    ) -> Int[Tensor, " scored"]:
        chosen = where.cpu()
        fractions = tokens.fractions(view, where)
        drawn: list[Tensor] = []
        for row in range(len(view.rows)):
            cells, future = self._row(view, row)
            states = self.accepting
            for cell, rest in zip(cells, future, strict=True):
                states = states if cell.begins is None else self._only(cell.begins)
                token = cell.token
                if chosen[row, cell.column]:
                    n = len(drawn)
                    allowed = self._allowed(states, rest, cell.table, log_probs.shape[-1]).to(log_probs.device)
                    one = slice(n, n + 1)
                    open_to = log_probs[one].masked_fill(~allowed, -torch.inf)
                    drawn.append(tokens.draw(open_to, uniforms[one], None if fractions is None else fractions[one]))
                    token = int(drawn[-1])
                states = self._after(states, token, cell.table)
        return torch.cat(drawn) if drawn else log_probs.new_zeros(0, dtype=torch.int64)
