"""The choice of positions to unmask: a score, Gumbel noise, and a commit rule.

The position is chosen before its token is sampled, so one token per step is exact. A ``DraftScore`` chooses among tokens already
sampled, which is not exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.orders.commit_rules import CommitRule, StepScores, TopK
from unmask.decode.orders.scores import Draft, DraftScore, NetworkScore, RandomOrder, Score
from unmask.decode.reads import Reads
from unmask.decode.remasking import Remasking
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.selection import gumbel
from unmask.randomness import Stream


class Selection(NamedTuple):
    """The choice of one step.

    Attributes:
        where: bool ``[b, L]``, positions to unmask.
        hidden: bool ``[b, L]``, unmasked positions to mask again.
        confidence: ``[b, L]``, every candidate's score.
    """

    where: Bool[Tensor, "rows seq"]
    hidden: Bool[Tensor, "rows seq"]
    confidence: Float[Tensor, "rows seq"]


@dataclass(frozen=True)
class Selector:
    """Which masked positions to unmask in a step.

    Args:
        score: the order of the candidates, highest first.
        commit_rule: how many of them are unmasked.
        temperature: of the choice of positions. 0 takes the highest scores; above 0, the highest
            ``log score + temperature * Gumbel``. Orders that read no logits are not perturbed.

    Raises:
        ValueError: a negative temperature, or a commit rule by confidence with an order without one.

    Examples:
        >>> from unmask import Selector
        >>> from unmask.decode.orders.commit_rules import Threshold
        >>> from unmask.decode.orders.scores import ConfidenceOrder
        >>> from unmask.ops.confidence import top_prob
        >>> Selector(ConfidenceOrder(top_prob), Threshold(0.9)).commit_rule.min_confidence
        0.9
    """

    score: Score | DraftScore = RandomOrder()
    commit_rule: CommitRule = TopK()
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"The temperature of the order is {self.temperature}, and a finite number of at least 0 is expected: give 0 (the most "
                "confident first) or more (order_temperature in make_rules, confidence_temperature in MLMPredictor)."
            )
        if Reads.CONFIDENCE in Reads.of(self.commit_rule) and not self.needs_logits:
            raise ValueError(
                f"{type(self.commit_rule).__name__} unmasks positions by confidence, and the order {type(self.score).__name__} measures "
                "none. Choose a confidence: top_prob, prob_diff or entropy."
            )

    @property
    def reads(self) -> Reads:
        """What the score and the commit rule read; a draft is sampled from normalised logits."""
        drafted = Reads.LOGITS | Reads.PROBABILITIES if self.draws_first else Reads.NOTHING
        return Reads.of(self.score) | Reads.of(self.commit_rule) | drafted

    @cached_property
    def needs_logits(self) -> bool:
        """True if the network runs before positions are chosen."""
        return self.draws_first or Reads.LOGITS in Reads.of(self.score)

    @cached_property
    def draws_first(self) -> bool:
        """True if tokens are sampled before positions are chosen."""
        return isinstance(self.score, DraftScore)

    def steps(self, max_steps: int) -> int:
        """Return the number of steps that ``max_steps`` forward passes allow: a critic network doubles all steps but the last."""
        return max_steps if self._network_score is None else (max_steps + 1) // 2

    def critic_tokens(self, view: StepView) -> Int[Tensor, " rows"] | None:
        """Return the number of tokens per row that a critic's network processes; None without such a critic."""
        return None if self._network_score is None else self._network_score.critic_tokens(view)

    @cached_property
    def _network_score(self) -> NetworkScore | None:
        """The score, if it has a network: protocols are slow to check, and every step asks."""
        return self.score if isinstance(self.score, NetworkScore) else None

    def choose(
        self, view: StepView, log_probs: LogProbs | None, remasking: Remasking, draft: Draft | None = None
    ) -> Selection:
        """Choose what to unmask and what to mask again, so that each row reaches its target count.

        Args:
            view: the step.
            log_probs: ``[N, V]`` at the candidates; None for a score that reads no logits.
            remasking: which unmasked tokens may be masked again.
            draft: the sampled tokens, for a ``DraftScore``.
        """
        if self.draws_first:
            assert draft is not None and isinstance(self.score, DraftScore)
            confidence = self.score.judge(view, draft)
            judged = replace(view, commit_prob=confidence.double()) if self.score.judges_revealed else view
        else:
            confidence, judged = self.score(view, log_probs), view  # type: ignore[operator]
        hidden = remasking.hide(judged, confidence)
        quota = view.target_count - view.revealed.sum(-1) + hidden.sum(-1)
        ranking = confidence
        if self.temperature > 0 and self.needs_logits:
            noise = gumbel(view.noise.per_token(Stream.ORDER, view.ids.shape[1]))
            smallest = torch.finfo(torch.float64).tiny
            ranking = confidence.double().clamp(min=smallest).log() + self.temperature * noise
        scores = StepScores(
            view,
            quota.clamp(min=remasking.min_reveals),
            confidence,
            ranking,
            log_probs,
            getattr(self.score, "doubt", None),
        )
        return Selection(self.commit_rule(scores), hidden, confidence)
