"""Scores: the order in which masked positions are unmasked, highest first.

    RandomOrder        uniformly random
    LeftToRight        leftmost first
    OrderBy            a function of the step
    ConfidenceOrder    most confident first: top probability, margin or entropy
    DrawnProbability   sample every position, keep the likeliest samples           (MaskGIT, 2202.04200)
    Critic             sample every position, keep those that a function rates best (Token-Critic, 2209.04439)

``unmask.decode.orders.critics`` has critics that are networks. A score without ``Reads.LOGITS`` runs before the network, so logits are computed only
at the chosen positions. The last two are ``DraftScore``s, a separate type: choosing among sampled tokens favours likely ones, so
samples are not exact even at one token per step.

Shapes: scores ``[b, L]``, finite at every candidate; log-probabilities ``[N, V]`` of the candidates, row-major.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.decode.reads import Reads
from unmask.decode.view import StepView, spread
from unmask.ops.confidence import DOUBTS, LogProbs, Scores, entropy, prob_diff, top_prob
from unmask.randomness import Stream


@runtime_checkable
class Score(Protocol):
    """The order of the candidates: scores ``[b, L]``, highest first, finite at every candidate.

    Attributes:
        reads: with ``Reads.LOGITS``, ``log_probs`` is ``[N, V]``. Without it the score runs before the network, and ``log_probs`` is None.

    Examples:
        >>> import torch
        >>> class RightToLeft:
        ...     reads = Reads.NOTHING
        ...     def __call__(self, view, log_probs):
        ...         return torch.arange(view.ids.shape[1], dtype=torch.float64).expand(view.ids.shape)
        >>> isinstance(RightToLeft(), Score), make_rules(4, order=RightToLeft()).max_steps
        (True, 4)
    """

    @property
    def reads(self) -> Reads: ...

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]: ...


class Draft(NamedTuple):
    """A token sampled at every candidate.

    Attributes:
        ids: int64 ``[b, L]``, the rows with all candidates filled.
        probability: ``[b, L]``, of the sampled tokens; 0 elsewhere.
    """

    ids: Int[Tensor, "rows seq"]
    probability: Float[Tensor, "rows seq"]


@runtime_checkable
class DraftScore(Protocol):
    """Ratings of sampled tokens: ``[b, L]`` in [0, 1], highest first. The rated tokens are those that are placed.

    Attributes:
        judges_revealed: True if tokens of earlier steps are rated again, for remasking to compare.

    Examples:
        >>> class RareFirst:
        ...     judges_revealed = False
        ...     def judge(self, view, draft):
        ...         return 1.0 - draft.probability
        >>> isinstance(RareFirst(), DraftScore), Rules(4, Selector(RareFirst())).max_steps
        (True, 4)
    """

    @property
    def judges_revealed(self) -> bool: ...

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]: ...


@runtime_checkable
class NetworkScore(DraftScore, Protocol):
    """A ``DraftScore`` with a network of its own, whose forward passes count as such."""

    def critic_tokens(self, view: StepView) -> Int[Tensor, " rows"]:
        """Return the number of tokens per row that the critic's network processes; 0 in rows that are not rated."""
        ...


@dataclass(frozen=True)
class RandomOrder:
    """Uniformly random order."""

    reads: ClassVar[Reads] = Reads.NOTHING

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        """Return keyed uniforms ``[b, L]``."""
        return view.noise.per_token(Stream.ORDER, view.ids.shape[1])


@dataclass(frozen=True)
class LeftToRight:
    """The leftmost masked position first."""

    reads: ClassVar[Reads] = Reads.NOTHING

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        """Return scores ``[b, L]`` that fall from left to right."""
        columns = torch.arange(view.ids.shape[1], 0, -1, dtype=torch.float64, device=view.ids.device)
        return columns.expand(view.ids.shape)


@dataclass(frozen=True)
class OrderBy:
    """An order given as a function.

    Attributes:
        function: the step's view -> scores ``[b, L]``, highest first. ``view.rows`` are the indices of the rows in the batch.
    """

    function: Callable[[StepView], Tensor]
    reads: Reads = field(default=Reads.PROBABILITIES, init=False)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        """Return the scores of the function, checked.

        Raises:
            ValueError: scores of another shape, or not finite at a candidate.
        """
        scores = self.function(view).double()
        if scores.shape != view.ids.shape or not bool(scores[view.candidates].isfinite().all()):
            raise ValueError(
                f"An order returns a finite score for every candidate, shaped {list(view.ids.shape)} (rows, positions); this function "
                f"returned shape {list(scores.shape)}, or a score that is not finite."
            )
        return scores


@dataclass(frozen=True)
class ConfidenceOrder:
    """The most confident position first.

    Attributes:
        measure: a function of ``unmask.ops.confidence``: log-probabilities ``[N, V]`` -> confidence ``[N]`` in [0, 1].
    """

    measure: Callable[[LogProbs], Scores]
    reads: Reads = field(default=Reads.LOGITS | Reads.PROBABILITIES, init=False)

    @property
    def doubt(self) -> Callable[[LogProbs], Scores] | None:
        """``1 - confidence`` without rounding error; None for measures outside ``unmask.ops.confidence``."""
        return DOUBTS.get(self.measure)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        """Return the confidence of the candidates, 0 elsewhere."""
        assert log_probs is not None
        return spread(self.measure(log_probs), view.candidates, 0.0)


def top_prob_order() -> ConfidenceOrder:
    """Return the order by the probability of the likeliest token."""
    return ConfidenceOrder(top_prob)


def prob_diff_order() -> ConfidenceOrder:
    """Return the order by the margin between the two likeliest tokens."""
    return ConfidenceOrder(prob_diff)


def entropy_order() -> ConfidenceOrder:
    """Return the order by negative entropy, scaled to [0, 1]."""
    return ConfidenceOrder(entropy)


@dataclass(frozen=True)
class DrawnProbability:
    """The likeliest of the sampled tokens first."""

    judges_revealed: bool = field(default=False, init=False)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        """Return the probabilities of the sampled tokens."""
        return draft.probability


@dataclass(frozen=True)
class Critic:
    """The tokens that a function rates best first. With ``MaskPredict``, low ratings also mask earlier tokens again.

    Attributes:
        function: ids ``[b, L]`` with every candidate filled, attention mask ``[b, L]`` -> the probability ``[b, L]`` in
            [0, 1] that each token is right.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    judges_revealed: bool = field(default=True, init=False)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        """Return the ratings of the function, checked.

        Raises:
            ValueError: ratings of another shape, or outside [0, 1].
        """
        rating = self.function(draft.ids, view.canvas.attention_mask).double()
        if rating.shape != draft.ids.shape or not bool(
            ((rating >= 0) & (rating <= 1))[view.canvas.attention_mask].all()
        ):
            raise ValueError(
                f"A critic returns the probability that each token is right, in [0, 1] and shaped {list(draft.ids.shape)} (rows, "
                f"positions); this function returned shape {list(rating.shape)}, or numbers outside [0, 1]. If it returns logits, write "
                "lambda ids, real: f(ids, real).sigmoid()."
            )
        return rating
