"""Commit rules: how many top-ranked positions to unmask in a step, never fewer than the quota.

    TopK              the quota of the budget
    Threshold         every position with confidence >= tau
    CumulativeError   the most confident, while the errors without the largest sum to less than e
    Factor            the largest n with (n + 1) (1 - c_n) < f, c_n the n-th highest confidence      (2505.22618)
    EntropyBound      the first-ranked, while the entropies without the largest sum to at most gamma (2505.24857)
    NonAdjacent       one of the above, but one position per contiguous masked span

The three before the last unmask a prefix of the ranking.

A float32 confidence near 1 rounds to 1. Bounds close to 1 (or errors close to 0) are therefore compared with sums of the small
probabilities (``StepScores.errors``).

Shapes: masks and scores ``[b, L]``, counts ``[b]``, log-probabilities ``[N, V]`` of the candidates, row-major.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.reads import Reads
from unmask.decode.view import StepView, spread
from unmask.ops.confidence import LogProbs, Scores, entropy_nats, possible
from unmask.ops.selection import select_top

_FINE = 1e-3  # below this bound, the rounding of a float32 confidence matters
_UNDERFLOW = 1e-30  # below this bound, the rounding of a float32 entropy matters


@dataclass(frozen=True)
class StepScores:
    """The input of a commit rule.

    Attributes:
        view: the step; ``view.candidates`` may be unmasked.
        quota: int64 ``[b]``, the smallest number to unmask.
        confidence: ``[b, L]``, the score.
        ranking: ``[b, L]``, the score with Gumbel noise; highest first.
        log_probs: ``[N, V]`` at the candidates, or None if the score reads no logits.
        doubt: log-probabilities -> ``1 - confidence`` without rounding error, or None.
    """

    view: StepView
    quota: Int[Tensor, " rows"]
    confidence: Float[Tensor, "rows seq"]
    ranking: Float[Tensor, "rows seq"]
    log_probs: LogProbs | None
    doubt: Callable[[LogProbs], Scores] | None = None

    def errors(self, bound: float) -> Float[Tensor, "rows seq"]:
        """Return ``1 - confidence`` of the candidates in float64, precise enough for a comparison with ``bound``."""
        if bound >= _FINE or self.doubt is None or self.log_probs is None:
            return 1.0 - self.confidence.double()
        return spread(self.doubt(self.log_probs).double(), self.view.candidates, 1.0)

    def first(self, count: Int[Tensor, " rows"]) -> Bool[Tensor, "rows seq"]:
        """Return the first ``count`` candidates of the ranking, or the quota if that is larger."""
        return select_top(self.ranking, self.view.candidates, torch.maximum(count, self.quota))

    def first_within(
        self, amounts: Float[Tensor, "rows seq"], within: Callable[[Tensor], Tensor]
    ) -> Bool[Tensor, "rows seq"]:
        """Return the longest prefix of the ranking whose amounts, without the largest, sum to a value ``within`` accepts."""
        ranked, is_candidate = self.ranked(amounts)
        return self.first((is_candidate & within(_all_but_largest(ranked))).sum(-1))

    def ranked(self, values: Float[Tensor, "rows seq"]) -> tuple[Float[Tensor, "rows seq"], Bool[Tensor, "rows seq"]]:
        """Return ``values`` in the order of the ranking, in float64, and a mask of the entries that are candidates."""
        ranking = self.ranking.double().masked_fill(~self.view.candidates, -torch.inf)
        order = ranking.argsort(dim=-1, descending=True, stable=True)
        return values.double().gather(-1, order), self.view.candidates.gather(-1, order)


@runtime_checkable
class CommitRule(Protocol):
    """The positions to unmask: a mask ``[b, L]`` with at least the quota of every row.

    An optional attribute ``reads`` says what the rule reads (``Reads``). ``Reads.CONFIDENCE`` requires an order by confidence.

    Examples:
        >>> class OneMore:
        ...     def __call__(self, scores):
        ...         return scores.first(scores.quota + 1)
        >>> isinstance(OneMore(), CommitRule), make_rules(4, commit_rule=OneMore()).max_steps
        (True, 4)
    """

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]: ...


@dataclass(frozen=True)
class TopK:
    """Unmask the quota, no more."""

    reads: ClassVar[Reads] = Reads.NOTHING

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]:
        """Return the first ``quota`` candidates."""
        return scores.first(scores.quota)


@dataclass(frozen=True)
class Threshold:
    """Unmask every candidate with at least this confidence, and the quota in any case.

    If all these probabilities exceed ``1 - e`` and ``(n + 1) e <= 1``, unmasking the ``n`` positions greedily at once is
    the joint argmax (2505.22618, theorem 1).

    Attributes:
        min_confidence: in [0, 1]; larger is stricter, and 1 unmasks the quota alone, one token per step.

    Raises:
        ValueError: a threshold outside [0, 1].
    """

    min_confidence: float
    reads: ClassVar[Reads] = Reads.CONFIDENCE | Reads.PROBABILITIES

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(
                f"threshold={self.min_confidence} is outside [0, 1], the range of a confidence. 0.9 is a usual choice; larger is stricter "
                "(fewer tokens per step), and 1 unmasks one token per step."
            )

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]:
        """Return the candidates above the threshold, and the quota."""
        quota = scores.first(scores.quota)
        if self.min_confidence == 1.0:
            return quota
        max_error = 1.0 - self.min_confidence
        confident = (
            scores.errors(max_error) <= max_error if max_error < _FINE else scores.confidence >= self.min_confidence
        )
        return quota | (scores.view.candidates & confident)


@dataclass(frozen=True)
class CumulativeError:
    """Unmask the most confident positions while the errors ``1 - confidence``, without the largest, sum to less than a bound.

    Attributes:
        max_error: above 0; larger unmasks more.

    Raises:
        ValueError: a bound of 0 or less.
    """

    max_error: float
    reads: ClassVar[Reads] = Reads.CONFIDENCE | Reads.PROBABILITIES

    def __post_init__(self) -> None:
        _require_positive("cumulative error", self.max_error)

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]:
        """Return the prefix of the ranking, and the quota."""
        return scores.first_within(scores.errors(self.max_error), lambda sums: sums < self.max_error)


@dataclass(frozen=True)
class Factor:
    """Unmask the ``n`` most confident positions, ``n`` the largest with ``(n + 1) (1 - c_n) < max_error``.

    Attributes:
        max_error: above 0; larger unmasks more.

    Raises:
        ValueError: a bound of 0 or less.
    """

    max_error: float
    reads: ClassVar[Reads] = Reads.CONFIDENCE | Reads.PROBABILITIES

    def __post_init__(self) -> None:
        _require_positive("factor", self.max_error)

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]:
        """Return the prefix of the ranking, and the quota."""
        errors, is_candidate = scores.ranked(scores.errors(self.max_error))
        n = torch.arange(1, errors.shape[1] + 1, device=errors.device)
        allowed = is_candidate & ((n + 1) * errors < self.max_error)
        return scores.first((allowed * n).amax(-1))


@dataclass(frozen=True)
class EntropyBound:
    """Unmask the longest prefix of the ranking with ``sum H - max H <= max_entropy``.

    That sum bounds the mutual information of the tokens (2505.24857).

    Attributes:
        max_entropy: nats, at least 0; larger unmasks more.

    Raises:
        ValueError: a negative bound.
    """

    max_entropy: float
    reads: ClassVar[Reads] = Reads.CONFIDENCE | Reads.PROBABILITIES

    def __post_init__(self) -> None:
        if self.max_entropy < 0:
            raise ValueError(
                f"An entropy bound is in nats and at least 0; got {self.max_entropy}. Usual values are 0.01 to 1."
            )

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]:
        """Return the prefix of the ranking, and the quota."""
        assert scores.log_probs is not None
        nats = entropy_nats(scores.log_probs)
        if self.max_entropy < _UNDERFLOW:  # an entropy of several possible tokens is above 0, even where it underflows
            smallest = torch.finfo(nats.dtype).tiny
            nats = torch.maximum(nats, (possible(scores.log_probs) > 1).to(nats.dtype) * smallest)
        return scores.first_within(spread(nats, scores.view.candidates, 0.0), lambda sums: sums <= self.max_entropy)


@dataclass(frozen=True)
class NonAdjacent:
    """Unmask at most one position per contiguous masked span, topping up by rank if the quota requires more.

    Tokens sampled in the same step are conditionally independent, so adjacent ones tend to repeat.

    Attributes:
        inner: the commit rule that is applied to the first-ranked position of each span.
    """

    inner: CommitRule

    @property
    def reads(self) -> Reads:
        """What the inner rule reads."""
        return Reads.of(self.inner)

    def __call__(self, scores: StepScores) -> Bool[Tensor, "rows seq"]:
        """Return the positions of the inner rule among the spans' first-ranked, and the quota."""
        candidates = scores.view.candidates
        first = _first_of_spans(scores.ranking, candidates)
        log_probs = None if scores.log_probs is None else scores.log_probs[first[candidates]]
        chosen = self.inner(replace(scores, view=replace(scores.view, candidates=first), log_probs=log_probs))
        return chosen | select_top(scores.ranking, candidates & ~chosen, (scores.quota - chosen.sum(-1)).clamp(min=0))


def _first_of_spans(
    ranking: Float[Tensor, "rows seq"], candidates: Bool[Tensor, "rows seq"]
) -> Bool[Tensor, "rows seq"]:
    """Return the best-ranked candidate of every contiguous span; ties go to the leftmost."""
    rank = ranking.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    span = torch.cat(  # one number per contiguous span of candidates
        [torch.zeros_like(rank[:, :1]), (~candidates).long().cumsum(-1)[:, :-1]], dim=-1
    )
    best = torch.full_like(rank, rank.shape[1]).scatter_reduce(
        1, span, rank.masked_fill(~candidates, rank.shape[1]), "amin"
    )
    return candidates & (rank == best.gather(1, span))


def _all_but_largest(values: Float[Tensor, "rows seq"]) -> Float[Tensor, "rows seq"]:
    """Return running sums without their largest term; they never decrease, so a bound on them admits a prefix."""
    largest = values.cummax(-1).values
    # Adding before subtracting would round: the first entry must be exactly 0.
    return (values - largest.diff(dim=-1, prepend=torch.zeros_like(largest[:, :1]))).clamp(min=0).cumsum(-1)


def _require_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"A {name} of {value} would admit nothing: give a number above 0.")
