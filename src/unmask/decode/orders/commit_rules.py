"""How many of the best are revealed in a step; a row's quota is the least.

    Quota             the budget's number
    Threshold         every one with confidence >= tau
    CumulativeError   the surest, while the errors of all but the worst stay below e
    Factor            the largest n with (n + 1) (1 - c_n) < f, c_n the n-th highest confidence   (2505.22618)
    EntropyBound      the surest, while their entropies but for the largest stay within gamma     (2505.24857)
    Apart             any of these, one in each run of neighbouring blanks as far as the quota allows

The three before the last reveal a prefix of the ranking, so each only counts how long it may be.

A confidence near 1 rounds to 1, and three of the rules read how far from 1 it is. Where their bound is so small that this shows, they sum
the small probabilities instead (``Evidence.errors``).

Shapes: masks and scores ``[b, L]``, counts ``[b]``, log-probabilities ``[N, V]`` over the candidates, row-major.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.view import StepView, spread
from unmask.ops.confidence import LogProbs, Scores, entropy_nats, possible
from unmask.ops.selection import select_top

_FINE = 1e-3  # bounds below which the rounding of a float32 confidence shows
_UNDERFLOW = 1e-30  # bounds below which that of a float32 entropy does


@dataclass(frozen=True)
class StepScores:
    """What an admission decides on.

    Attributes:
        view: the step; ``view.candidates`` may be admitted.
        quota: int64 ``[b]``, how many of them are at least.
        confidence: ``[b, L]``, the score itself.
        ranking: ``[b, L]``, the score after chance was mixed in; which come first.
        log_probs: ``[N, V]`` at the candidates, or None where the score needs none.
        doubt: log-probabilities -> ``1 - confidence`` without rounding, or None where the score has none.
    """

    view: StepView
    quota: Int[Tensor, " rows"]
    confidence: Float[Tensor, "rows seq"]
    ranking: Float[Tensor, "rows seq"]
    log_probs: LogProbs | None
    doubt: Callable[[LogProbs], Scores] | None = None

    def errors(self, bound: float) -> Float[Tensor, "rows seq"]:
        """``1 - confidence`` of the candidates in float64, fine enough to be compared with ``bound``."""
        if bound >= _FINE or self.doubt is None or self.log_probs is None:
            return 1.0 - self.confidence.double()
        return spread(self.doubt(self.log_probs).double(), self.view.candidates, 1.0)

    def first(self, count: Int[Tensor, " rows"]) -> Bool[Tensor, "rows seq"]:
        """The first ``count`` candidates of the ranking, or the quota if that is more."""
        return select_top(self.ranking, self.view.candidates, torch.maximum(count, self.quota))

    def ranked(self, values: Float[Tensor, "rows seq"]) -> tuple[Float[Tensor, "rows seq"], Bool[Tensor, "rows seq"]]:
        """``values`` of the candidates, first in the ranking first, in float64; and which places hold a candidate."""
        ranking = self.ranking.double().masked_fill(~self.view.candidates, -torch.inf)
        order = ranking.argsort(dim=-1, descending=True, stable=True)
        return values.double().gather(-1, order), self.view.candidates.gather(-1, order)


@runtime_checkable
class CommitRule(Protocol):
    """Which candidates are revealed: a mask ``[b, L]`` with the row's quota at least.

    Attributes:
        needs_confidence: whether the score must be a confidence in [0, 1].
    """

    @property
    def needs_confidence(self) -> bool: ...

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]: ...


@dataclass(frozen=True)
class TopK:
    """The best of the step's budget, no more."""

    needs_confidence: bool = field(default=False, init=False)
    reads_probabilities: ClassVar[bool] = False

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]:
        return evidence.first(evidence.quota)


@dataclass(frozen=True)
class Threshold:
    """Every candidate whose confidence is at least ``least``, and the row's quota in any case.

    If every admitted probability exceeds ``1 - e`` and ``(n + 1) e <= 1``, revealing the ``n`` of them greedily at once is
    the joint argmax (2505.22618, theorem 1).

    Attributes:
        least: in [0, 1]; larger is stricter, and 1 admits the quota alone: one token a step.
    """

    min_confidence: float
    needs_confidence: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(
                f"threshold={self.min_confidence} is outside [0, 1], where confidences live. 0.9 is a usual choice; larger is stricter "
                "(fewer tokens a step), 1 reveals one token a step."
            )

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]:
        quota = evidence.first(evidence.quota)
        if self.min_confidence == 1.0:
            return quota
        fine = 1.0 - self.min_confidence < _FINE
        sure = (
            evidence.errors(1.0 - self.min_confidence) <= 1.0 - self.min_confidence
            if fine
            else evidence.confidence >= self.min_confidence
        )
        return quota | (evidence.view.candidates & sure)


@dataclass(frozen=True)
class CumulativeError:
    """The surest, while the sum of ``1 - confidence`` over all of them but the worst stays below ``most``.

    Attributes:
        most: above 0; larger admits more.
    """

    max_error: float
    needs_confidence: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _positive("cumulative error", self.max_error)

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]:
        errors, real = evidence.ranked(evidence.errors(self.max_error))
        return evidence.first((real & (_all_but_largest(errors) < self.max_error)).sum(-1))


@dataclass(frozen=True)
class Factor:
    """The largest ``n`` with ``(n + 1) (1 - c_n) < most``, where ``c_n`` is the n-th highest confidence.

    Attributes:
        most: above 0; larger admits more.
    """

    max_error: float
    needs_confidence: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _positive("factor", self.max_error)

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]:
        errors, real = evidence.ranked(evidence.errors(self.max_error))
        n = torch.arange(1, errors.shape[1] + 1, device=errors.device)
        allowed = real & ((n + 1) * errors < self.max_error)
        return evidence.first((allowed * n).amax(-1))


@dataclass(frozen=True)
class EntropyBound:
    """The longest prefix of the ranking with ``sum H - max H <= most``, which bounds what the tokens tell of each other.

    Attributes:
        most: nats, at least 0; larger admits more.
    """

    max_error: float
    needs_confidence: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.max_error < 0:
            raise ValueError(
                f"An entropy bound is in nats and at least 0; got {self.max_error}. Usual values are 0.01 to 1."
            )

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]:
        assert evidence.log_probs is not None
        found = entropy_nats(evidence.log_probs)
        if self.max_error < _UNDERFLOW:  # nothing is certain where more than one token is possible
            found = torch.maximum(
                found, (possible(evidence.log_probs) > 1).to(found.dtype) * torch.finfo(found.dtype).tiny
            )
        nats, real = evidence.ranked(spread(found, evidence.view.candidates, 0.0))
        return evidence.first((real & (_all_but_largest(nats) <= self.max_error)).sum(-1))


@dataclass(frozen=True)
class NonAdjacent:
    """What another admission reveals of the first-ranked blank of each run of neighbours: tokens that are placed side by side in one
    step do not know of each other, and tend to repeat. Where the quota is more than that, the first of the others make it up.

    Attributes:
        inner: the admission.
    """

    inner: CommitRule

    @property
    def needs_confidence(self) -> bool:
        return self.inner.needs_confidence

    @property
    def reads_probabilities(self) -> bool:
        return getattr(self.inner, "reads_probabilities", True)

    def __call__(self, evidence: StepScores) -> Bool[Tensor, "rows seq"]:
        candidates = evidence.view.candidates
        first = _first_of_runs(evidence.ranking, candidates)
        log_probs = None if evidence.log_probs is None else evidence.log_probs[first[candidates]]
        chosen = self.inner(replace(evidence, view=replace(evidence.view, candidates=first), log_probs=log_probs))
        return chosen | select_top(
            evidence.ranking, candidates & ~chosen, (evidence.quota - chosen.sum(-1)).clamp(min=0)
        )


def _first_of_runs(
    ranking: Float[Tensor, "rows seq"], candidates: Bool[Tensor, "rows seq"]
) -> Bool[Tensor, "rows seq"]:
    """The best-ranked candidate of every run of neighbouring ones; of equals the leftmost."""
    place = ranking.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    run = torch.cat(
        [torch.zeros_like(place[:, :1]), (~candidates).long().cumsum(-1)[:, :-1]], dim=-1
    )  # alike within a run of candidates
    best = torch.full_like(place, place.shape[1]).scatter_reduce(
        1, run, place.masked_fill(~candidates, place.shape[1]), "amin"
    )
    return candidates & (place == best.gather(1, run))


def _all_but_largest(values: Float[Tensor, "rows seq"]) -> Float[Tensor, "rows seq"]:
    """Running sum without its largest term; never decreases, so what it bounds is a prefix."""
    largest = values.cummax(-1).values
    # Adding before subtracting would round: the first place must be exactly 0.
    return (values - largest.diff(dim=-1, prepend=torch.zeros_like(largest[:, :1]))).clamp(min=0).cumsum(-1)


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"A {name} of {value} would admit nothing: give a number above 0.")
