"""Constraints that join positions: what may be placed here depends on what stands elsewhere in the row.

A constraint narrows the logits before anything is scored, and draws the chosen positions of a step one after another, so
that tokens placed in the same step agree with each other.

    Unconstrained   every position on its own
    Automaton       the tokens from the first blank on are accepted by a finite automaton

The automaton looks ahead through the blanks that remain: a token is allowed only if what is left can still be filled, so a
pattern that fits the row at all is always completed.

Shapes: ``[N, V]`` over a mask ``where [b, L]``, row-major; ``S`` states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.tokens import Tokens
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits

_BETWEEN = -1  # stands for what is given between two runs of blanks


@runtime_checkable
class Constraint(Protocol):
    """What tokens may stand together. One with ``reads_probabilities = False`` may be given logits to draw from (see ``Rules``)."""

    def restrict(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        """Set to ``-inf`` what no filling of the row can have at each position."""
        ...

    def draw(
        self,
        tokens: Tokens,
        log_probs: LogProbs,
        uniforms: Float[Tensor, " scored"],
        view: StepView,
        where: Bool[Tensor, "rows seq"],
    ) -> Int[Tensor, " scored"]:
        """One id per True of ``where``, all of which may stand together."""
        ...


@dataclass(frozen=True)
class Unconstrained:
    """Every position on its own."""

    reads_probabilities: ClassVar[bool] = False

    def restrict(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        return logits

    def draw(
        self,
        tokens: Tokens,
        log_probs: LogProbs,
        uniforms: Float[Tensor, " scored"],
        view: StepView,
        where: Bool[Tensor, "rows seq"],
    ) -> Int[Tensor, " scored"]:
        return tokens.draw(log_probs, uniforms, tokens.shares(view, where))


@dataclass(frozen=True, eq=False)
class Automaton:
    """A deterministic finite automaton over token ids, run from each row's first blank to its last real token.

    Special ids are never placed, EOS among them: the automaton, not EOS, says where the text ends. Given tokens inside the
    span are read like any other. Hooks and filters act on what the automaton allows, so a hook that forbids all of it leaves
    no token.

    Attributes:
        transitions: int64 ``[S, V]``, the state after reading an id; -1 = not allowed.
        accepting: bool ``[S]``, the states a row may end in.
        special: ids that are never placed.
        start: the first state.
        each_run: read every run of blanks by itself, from ``start`` to an accepting state, and what is given around them not at
            all.
    """

    transitions: Int[Tensor, "states vocab"]
    accepting: Bool[Tensor, " states"]
    special: SpecialIds
    start: int = 0
    each_run: bool = False
    reads_probabilities: ClassVar[bool] = False

    def __post_init__(self) -> None:
        states = len(self.transitions)
        if len(self.accepting) != states or not 0 <= self.start < states or int(self.transitions.max()) >= states:
            raise ValueError(
                f"An automaton of {states} states needs transitions to states below {states} (or -1), one accepting flag per "
                f"state (got {len(self.accepting)}) and a start among them (got {self.start})."
            )

    @classmethod
    def requiring(cls, ids: Sequence[int], special: SpecialIds) -> Automaton:
        """Anything, as long as each of ``ids`` appears at least once. States are the sets seen so far (``2 ** len(ids)``).

        Raises:
            ValueError: more than ten ids, or one that is special or beyond the vocabulary.
        """
        wrong = [i for i in ids if i in special.all or not 0 <= i < special.vocab_size]
        if wrong or len(ids) > 10:
            raise ValueError(f"Up to ten ordinary ids can be required; got {len(ids)}, of which {wrong} are special or unknown.")
        states = torch.arange(2 ** len(ids))
        transitions = states[:, None].repeat(1, special.vocab_size)
        for bit, id in enumerate(ids):
            transitions[:, id] = states | (1 << bit)
        return cls(transitions, states == len(states) - 1, special)

    @classmethod
    def pattern(cls, allowed: Sequence[Sequence[int]], special: SpecialIds) -> Automaton:
        """Exactly ``len(allowed)`` tokens from the first blank on, each out of its own set of ids."""
        transitions = torch.full((len(allowed) + 1, special.vocab_size), -1)
        for state, ids in enumerate(allowed):
            transitions[state, list(ids)] = state + 1
        return cls(transitions, torch.arange(len(allowed) + 1) == len(allowed), special)

    @property
    def possible(self) -> bool:
        """Whether any sequence of tokens is accepted."""
        reached = self._beginning
        for _ in range(len(self.accepting)):
            reached = reached | self._after(reached, None)
        return bool((reached & self.accepting).any())

    def accepts_length(self, tokens: int) -> bool:
        """Whether some sequence of exactly so many tokens is accepted."""
        reached = self._beginning
        for _ in range(tokens):
            reached = self._after(reached, None)
        return bool((reached & self.accepting).any())

    @cached_property
    def _after_any(self) -> Bool[Tensor, "states states"]:
        """``[s, s']`` True where some id that may be placed leads from ``s`` to ``s'``."""
        transitions = self.transitions.clone()
        transitions[:, [i for i in self.special.all if i < transitions.shape[1]]] = -1
        reach = torch.zeros(len(transitions), len(transitions) + 1, dtype=torch.bool)
        return reach.scatter(1, transitions.masked_fill(transitions < 0, len(transitions)), True)[:, :-1]

    @cached_property
    def _beginning(self) -> Bool[Tensor, " states"]:
        return torch.arange(len(self.accepting)) == self.start

    def _after(self, states: Bool[Tensor, " states"], token: int | None) -> Bool[Tensor, " states"]:
        """The states after one more token; None = any."""
        if token == _BETWEEN:
            return self._beginning  # what came before was accepted: every token so far left that open
        if token is None:
            return self._after_any[states].any(0)
        after = torch.zeros_like(states)
        reached = self.transitions[states, token] if token < self.transitions.shape[1] else torch.empty(0, dtype=torch.int64)
        after[reached[reached >= 0]] = True
        return after

    def _before(self, states: Bool[Tensor, " states"], token: int | None) -> Bool[Tensor, " states"]:
        """The states from which one more token leads into ``states``."""
        if token == _BETWEEN:
            return self.accepting & states[self.start]
        if token is None:
            return (self._after_any & states).any(1)
        if token >= self.transitions.shape[1]:
            return torch.zeros_like(states)
        reached = self.transitions[:, token]
        return (reached >= 0) & states[reached.clamp(min=0)]

    def _row(self, view: StepView, row: int) -> tuple[list[int], list[int | None], list[Bool[Tensor, " states"]]]:
        """Columns of the span, its tokens (None = blank), and after each the states from which the rest can be accepted."""
        real = view.canvas.attention_mask[row].nonzero()[:, 0].tolist()
        first = int(view.wanted[row].long().argmax())
        columns = [column for column in real if column >= first]
        ids, blank = view.ids[row].tolist(), view.blanks[row].tolist()
        tokens = [None if blank[column] else ids[column] for column in columns]
        if self.each_run:
            columns, tokens = _runs(columns, tokens, view.wanted[row].tolist())
        future = [self.accepting]
        for token in reversed(tokens):
            future.append(self._before(future[-1], token))
        future.reverse()
        if not bool(future[0][self.start]):
            raise ValueError(
                f"The automaton accepts no filling of row {int(view.rows[row])}: {sum(t is None for t in tokens)} blanks in "
                f"{len(tokens)} tokens. Check the row's length and its given tokens against the pattern."
            )
        return columns, tokens, future[1:]

    def _allowed(self, states: Bool[Tensor, " states"], future: Bool[Tensor, " states"], vocab: int) -> Bool[Tensor, " vocab"]:
        """The ids that lead from ``states`` to where the rest can be accepted."""
        reached = self.transitions[states]
        known = ((reached >= 0) & future[reached.clamp(min=0)]).any(0)
        allowed = torch.zeros(vocab, dtype=torch.bool)
        allowed[: len(known)] = known[:vocab]
        allowed[[i for i in self.special.all if i < vocab]] = False
        return allowed

    def restrict(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        places = where.cpu()
        allowed = []
        for row in range(len(view.rows)):
            columns, tokens, future = self._row(view, row)
            states = self._beginning
            for column, token, rest in zip(columns, tokens, future, strict=True):
                if places[row, column]:
                    allowed.append(self._allowed(states, rest, logits.shape[-1]))
                states = self._after(states, token)
        return logits.masked_fill(~torch.stack(allowed).to(logits.device), -torch.inf) if allowed else logits

    def draw(
        self,
        tokens: Tokens,
        log_probs: LogProbs,
        uniforms: Float[Tensor, " scored"],
        view: StepView,
        where: Bool[Tensor, "rows seq"],
    ) -> Int[Tensor, " scored"]:
        places = where.cpu()
        shares = tokens.shares(view, where)
        drawn: list[Tensor] = []
        for row in range(len(view.rows)):
            columns, known, future = self._row(view, row)
            states = self._beginning
            for column, known_token, rest in zip(columns, known, future, strict=True):
                token = known_token
                if places[row, column]:
                    n = len(drawn)
                    allowed = self._allowed(states, rest, log_probs.shape[-1]).to(log_probs.device)
                    one = slice(n, n + 1)
                    open_to = log_probs[one].masked_fill(~allowed, -torch.inf)
                    drawn.append(tokens.draw(open_to, uniforms[one], None if shares is None else shares[one]))
                    token = int(drawn[-1])
                states = self._after(states, token)
        return torch.cat(drawn) if drawn else log_probs.new_zeros(0, dtype=torch.int64)


def _runs(columns: list[int], tokens: list[int | None], wanted: list[bool]) -> tuple[list[int], list[int | None]]:
    """The runs of wanted tokens, with one ``_BETWEEN`` (at a given column) between two."""
    kept: list[tuple[int, int | None]] = []
    for column, token in zip(columns, tokens, strict=True):
        if wanted[column]:
            kept.append((column, token))
        elif kept and kept[-1][1] != _BETWEEN:
            kept.append((column, _BETWEEN))
    if kept and kept[-1][1] == _BETWEEN:
        kept.pop()
    return [column for column, _ in kept], [token for _, token in kept]
