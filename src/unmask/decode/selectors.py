"""Which blanks to reveal: a score, how much chance to mix into it, and an admission.

    score       how early a position should be revealed     random | left to right | a confidence | the caller's
    admission   how many of the best are revealed           the quota | every one that clears a threshold

A score that reads no logits is computed before the network runs, so logits are paid only where a token is drawn. Whatever
the score, the place is chosen before the token is drawn: that keeps one-at-a-time decoding exact (ALGORITHMS 0.2).

Shapes: scores and masks ``[b, L]``; log-probabilities ``[N, V]`` over the candidates, row-major.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.decode.view import StepView, spread
from unmask.ops.confidence import LogProbs, Scores
from unmask.ops.selection import gumbel, select_top
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


@dataclass(frozen=True)
class RandomOrder:
    """Every blank equally likely to be next."""

    needs_logits: bool = field(default=False, init=False)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        return view.noise.per_token(Stream.ORDER, view.ids.shape[1])


@dataclass(frozen=True)
class ConfidenceOrder:
    """The surest blank first.

    Attributes:
        measure: a function of ``unmask.ops.confidence``: log-probabilities ``[N, V]`` -> scores ``[N]`` in [0, 1].
    """

    measure: Callable[[LogProbs], Scores]
    needs_logits: bool = field(default=True, init=False)

    def __call__(self, view: StepView, log_probs: LogProbs | None) -> Float[Tensor, "rows seq"]:
        assert log_probs is not None
        return spread(self.measure(log_probs), view.candidates, 0.0)


@dataclass(frozen=True)
class Evidence:
    """What an admission decides on.

    Attributes:
        view: the step; ``view.candidates`` may be admitted and ``view.quota`` of them at least.
        confidence: ``[b, L]``, the score itself.
        ranking: ``[b, L]``, the score after chance was mixed in; which come first.
        log_probs: ``[N, V]`` at the candidates, or None where the score needs none.
    """

    view: StepView
    confidence: Float[Tensor, "rows seq"]
    ranking: Float[Tensor, "rows seq"]
    log_probs: LogProbs | None


@runtime_checkable
class Admission(Protocol):
    """How many of the best are revealed; a row's quota is the least.

    Attributes:
        needs_confidence: whether the score must be a confidence in [0, 1].
    """

    @property
    def needs_confidence(self) -> bool: ...

    def __call__(self, evidence: Evidence) -> Bool[Tensor, "rows seq"]: ...


@dataclass(frozen=True)
class Quota:
    """The best of the step's budget, no more."""

    needs_confidence: bool = field(default=False, init=False)

    def __call__(self, evidence: Evidence) -> Bool[Tensor, "rows seq"]:
        return select_top(evidence.ranking, evidence.view.candidates, evidence.view.quota)


@dataclass(frozen=True)
class Threshold:
    """Every candidate whose confidence is at least ``least``, and the row's quota in any case.

    Attributes:
        least: in [0, 1]; larger is stricter.
    """

    least: float
    needs_confidence: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.least <= 1.0:
            raise ValueError(
                f"threshold={self.least} is outside [0, 1], where confidences live. 0.9 is a usual choice; larger is stricter "
                "(fewer tokens a step), 1 reveals one token a step."
            )

    def __call__(self, evidence: Evidence) -> Bool[Tensor, "rows seq"]:
        cleared = evidence.view.candidates & (evidence.confidence >= self.least)
        return cleared | select_top(evidence.ranking, evidence.view.candidates, evidence.view.quota)


@dataclass(frozen=True)
class Selector:
    """A score, an admission, and the temperature between them.

    Attributes:
        score: how early each blank should be revealed.
        admission: how many of the best are.
        temperature: of the choice of places. 0 takes the best; above, the best of ``log score + temperature * Gumbel``.

    Raises:
        ValueError: a negative temperature, or an admission by confidence over a score that is none.
    """

    score: Score = RandomOrder()
    admission: Admission = Quota()
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"confidence_temperature={self.temperature} is negative: give 0 (the surest first) or more.")
        if self.admission.needs_confidence and not self.score.needs_logits:
            raise ValueError(
                f"{type(self.admission).__name__} admits positions by confidence, and {type(self.score).__name__} measures "
                "none. Choose a confidence: top_prob, prob_diff or entropy."
            )

    @property
    def needs_logits(self) -> bool:
        return self.score.needs_logits

    def choose(
        self, view: StepView, log_probs: LogProbs | None
    ) -> tuple[Bool[Tensor, "rows seq"], Float[Tensor, "rows seq"]]:
        """The positions to reveal, at least the quota of each row, and every candidate's score."""
        confidence = self.score(view, log_probs)
        ranking = confidence
        if self.temperature > 0 and self.needs_logits:
            noise = gumbel(view.noise.per_token(Stream.ORDER, view.ids.shape[1]))
            smallest = torch.finfo(torch.float64).tiny
            ranking = confidence.double().clamp(min=smallest).log() + self.temperature * noise
        return self.admission(Evidence(view, confidence, ranking, log_probs)), confidence
