"""Which blanks to reveal: a score, how much chance to mix into it, and an admission.

The place is chosen before the token is drawn, which keeps one-at-a-time decoding exact; only a ``DraftScore`` chooses among
tokens already drawn, and that does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.orders.commit_rules import CommitRule, StepScores, TopK
from unmask.decode.orders.scores import Draft, DraftScore, NetworkScore, RandomOrder, Score
from unmask.decode.remasking import Remasking
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.selection import gumbel
from unmask.randomness import Stream


class Selection(NamedTuple):
    """Positions ``[b, L]`` to reveal, revealed positions to hide again, and every candidate's score."""

    where: Bool[Tensor, "rows seq"]
    hidden: Bool[Tensor, "rows seq"]
    confidence: Float[Tensor, "rows seq"]


@dataclass(frozen=True)
class Selector:
    """A score, an admission, and the temperature between them.

    Attributes:
        score: how early each blank should be revealed.
        admission: how many of the best are.
        temperature: of the choice of places. 0 takes the best; above, the best of ``log score + temperature * Gumbel``
            (scores of the random order and of the caller's are left as they are).

    Raises:
        ValueError: a negative temperature, or an admission by confidence over a score that is none.
    """

    score: Score | DraftScore = RandomOrder()
    commit_rule: CommitRule = TopK()
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"confidence_temperature={self.temperature} is not a number of at least 0: give 0 (the surest first) or more."
            )
        if self.commit_rule.needs_confidence and not self.needs_logits:
            raise ValueError(
                f"{type(self.commit_rule).__name__} admits positions by confidence, and {type(self.score).__name__} measures "
                "none. Choose a confidence: top_prob, prob_diff or entropy."
            )

    @property
    def needs_logits(self) -> bool:
        return self.draws_first or self.score.needs_logits  # type: ignore[union-attr]

    @property
    def draws_first(self) -> bool:
        """Whether a draft has to be drawn before places are chosen."""
        return isinstance(self.score, DraftScore)

    def steps(self, max_steps: int) -> int:
        """How many steps so many evaluations are enough for: a network that judges is asked in all of them but the last."""
        return (max_steps + 1) // 2 if isinstance(self.score, NetworkScore) else max_steps

    def asks(self, view: StepView) -> Int[Tensor, " rows"] | None:
        """How many tokens of each row judging runs through a network; None where no network judges."""
        return self.score.asks(view) if isinstance(self.score, NetworkScore) else None

    def choose(
        self, view: StepView, log_probs: LogProbs | None, remasking: Remasking, draft: Draft | None = None
    ) -> Selection:
        """What to reveal and what to hide again, so that the row meets its target."""
        if isinstance(self.score, DraftScore):
            assert draft is not None
            confidence = self.score.judge(view, draft)
            judged = replace(view, commit_prob=confidence.double()) if self.score.judges_revealed else view
        else:
            confidence, judged = self.score(view, log_probs), view
        hidden = remasking.hide(judged, confidence)
        quota = view.target_count - view.revealed.sum(-1) + hidden.sum(-1)
        ranking = confidence
        if self.temperature > 0 and self.needs_logits:
            noise = gumbel(view.noise.per_token(Stream.ORDER, view.ids.shape[1]))
            smallest = torch.finfo(torch.float64).tiny
            ranking = confidence.double().clamp(min=smallest).log() + self.temperature * noise
        evidence = StepScores(
            view,
            quota.clamp(min=remasking.min_reveals),
            confidence,
            ranking,
            log_probs,
            getattr(self.score, "doubt", None),
        )
        return Selection(self.commit_rule(evidence), hidden, confidence)
