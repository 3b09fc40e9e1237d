"""How early a position should be revealed: higher first.

    RandomOrder        every blank equally likely to be next
    LeftToRight        as a reader would
    OrderBy            the caller's function of the step
    ConfidenceOrder    the surest first: top probability, margin or entropy
    DrawnProbability   draw everywhere, then keep the likeliest of what was drawn   (MaskGIT, 2202.04200)
    Critic             draw everywhere, then keep what a critic believes            (Token-Critic, 2209.04439)

A critic that is a network is in ``unmask.decode.orders.critics``. A score that reads no logits is asked before the network runs, so logits
are paid only where a token is drawn. The last two are
``DraftScore``s, a type of their own: choosing among drawn tokens favours likely ones, so they are not exact even with one token
a step.

Shapes: scores ``[b, L]``, finite at every candidate; log-probabilities ``[N, V]`` over the candidates, row-major.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.decode.view import StepView, spread
from unmask.ops.confidence import DOUBTS, LogProbs, Scores
from unmask.randomness import Stream


@runtime_checkable
class Score(Protocol):
    """How early each candidate should be revealed: ``[b, L]``, higher first, finite at every candidate.

    Attributes:
        needs_logits: whether ``log_probs`` is read; if not, the score is asked before the network runs, with None.
    """

    @property
    def needs_logits(self) -> bool: ...

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]: ...


class Draft(NamedTuple):
    """A token drawn at every candidate.

    Attributes:
        ids: int64 ``[b, L]``, the rows with all candidates filled.
        probability: ``[b, L]``, of the drawn tokens; 0 elsewhere.
    """

    ids: Int[Tensor, "rows seq"]
    probability: Float[Tensor, "rows seq"]


@runtime_checkable
class DraftScore(Protocol):
    """How good drawn tokens are: ``[b, L]`` in [0, 1], higher first. The tokens judged are those that are placed.

    Attributes:
        judges_revealed: whether the tokens revealed before are judged anew too, for a revision to compare.
    """

    @property
    def judges_revealed(self) -> bool: ...

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]: ...


@runtime_checkable
class NetworkScore(DraftScore, Protocol):
    """A ``DraftScore`` that asks a network, which counts as an evaluation of the rows it is asked about."""

    def asks(self, view: StepView) -> Int[Tensor, " rows"]:
        """How many tokens of each row judging runs through the network; 0 where it is not asked."""
        ...


@dataclass(frozen=True)
class RandomOrder:
    """Every blank equally likely to be next."""

    needs_logits: bool = field(default=False, init=False)
    reads_probabilities: ClassVar[bool] = False

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        return view.noise.per_token(Stream.ORDER, view.ids.shape[1])


@dataclass(frozen=True)
class LeftToRight:
    """The leftmost blank first."""

    needs_logits: bool = field(default=False, init=False)
    reads_probabilities: ClassVar[bool] = False

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        columns = torch.arange(view.ids.shape[1], 0, -1, dtype=torch.float64, device=view.ids.device)
        return columns.expand(view.ids.shape)


@dataclass(frozen=True)
class OrderBy:
    """The caller's order.

    Attributes:
        function: the step's view -> scores ``[b, L]``, higher first. ``view.rows`` says which rows of the batch they are.
    """

    function: Callable[[StepView], Tensor]
    needs_logits: bool = field(default=False, init=False)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        scores = self.function(view).double()
        if scores.shape != view.ids.shape or not bool(scores[view.candidates].isfinite().all()):
            raise ValueError(
                f"An order is a finite score for every candidate, shaped {list(view.ids.shape)} (rows, positions); the function "
                f"gave {list(scores.shape)}, or a score that is not finite."
            )
        return scores


@dataclass(frozen=True)
class ConfidenceOrder:
    """The surest blank first.

    Attributes:
        measure: a function of ``unmask.ops.confidence``: log-probabilities ``[N, V]`` -> scores ``[N]`` in [0, 1].
    """

    measure: Callable[[LogProbs], Scores]
    needs_logits: bool = field(default=True, init=False)

    @property
    def doubt(self) -> Callable[[LogProbs], Scores] | None:
        """What is missing of a score to 1, without rounding; None for a measure of the caller's."""
        return DOUBTS.get(self.measure)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        assert log_probs is not None
        return spread(self.measure(log_probs), view.candidates, 0.0)


@dataclass(frozen=True)
class DrawnProbability:
    """The likeliest of the drawn tokens first."""

    judges_revealed: bool = field(default=False, init=False)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        return draft.probability


@dataclass(frozen=True)
class Critic:
    """The tokens a critic believes first. With ``KeepSurest`` it also hides what it no longer believes.

    Attributes:
        function: ids ``[b, L]`` without blanks among the candidates, attention mask ``[b, L]`` -> the probability ``[b, L]`` in
            [0, 1] that each token is right.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    judges_revealed: bool = field(default=True, init=False)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        belief = self.function(draft.ids, view.canvas.attention_mask).double()
        if belief.shape != draft.ids.shape or not bool(
            ((belief >= 0) & (belief <= 1))[view.canvas.attention_mask].all()
        ):
            raise ValueError(
                f"A critic answers the probability that each token is right, in [0, 1] and shaped {list(draft.ids.shape)} (rows, "
                f"positions); the function gave {list(belief.shape)}, or numbers outside. For logits, give lambda ids, real: f(ids, real).sigmoid()."
            )
        return belief
