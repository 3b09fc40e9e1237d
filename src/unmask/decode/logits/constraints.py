"""Constraints on tokens that occur together: the ids allowed at a position depend on the rest of the row.

A constraint masks logits before scoring, and samples the positions of a step sequentially, so
that tokens placed in the same step agree. Others than ``Unconstrained`` are ``Automaton`` (``unmask.decode.logits.automaton``) and
``WholeCharacters`` (``unmask.decode.logits.characters``).

Shapes: ``[N, V]`` over a mask ``where [b, L]``, row-major.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.logits.sampler import Tokens
from unmask.decode.reads import Reads
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits


@runtime_checkable
class Constraint(Protocol):
    """Which tokens may occur together.

    An optional attribute ``reads`` says what the constraint reads (``Reads``). With ``Reads.NOTHING`` it samples from unnormalised logits.

    Examples:
        >>> import torch
        >>> special = SpecialIds(mask=0, vocab_size=20)
        >>> def model(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 20)
        >>> class OnlySeven:
        ...     def restrict(self, logits, view, where):
        ...         return torch.where(torch.arange(20) == 7, logits, -torch.inf)
        ...     def draw(self, tokens, log_probs, uniforms, view, where):
        ...         return tokens.draw(log_probs, uniforms, tokens.fractions(view, where))
        >>> canvas = Canvas.infill(torch.tensor([[5, 0, 0]]), special)
        >>> fill_canvas(model, canvas, make_rules(2, constraint=OnlySeven()), special=special, seed=0).ids.tolist()
        [[5, 7, 7]]
    """

    def restrict(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        """Set the logits of ids that no completion of the row contains to ``-inf``.

        Args:
            logits: ``[N, V]`` at ``where``.
            view: the step.
            where: bool ``[b, L]``.
        """
        ...

    def draw(
        self,
        tokens: Tokens,
        log_probs: LogProbs,
        uniforms: Float[Tensor, " scored"],
        view: StepView,
        where: Bool[Tensor, "rows seq"],
    ) -> Int[Tensor, " scored"]:
        """Sample one id per True of ``where``; together they satisfy the constraint.

        Args:
            tokens: the sampler.
            log_probs: ``[N, V]`` at ``where``; logits if no part of the rules reads probabilities.
            uniforms: float64 ``[N]`` in (0, 1).
            view: the step.
            where: bool ``[b, L]``.
        """
        ...


@dataclass(frozen=True)
class Unconstrained:
    """No constraint: positions are independent."""

    reads: ClassVar[Reads] = Reads.NOTHING

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
        return tokens.draw(log_probs, uniforms, tokens.fractions(view, where))
