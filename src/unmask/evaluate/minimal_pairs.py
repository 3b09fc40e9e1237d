"""Minimal pairs: how often the acceptable sentence of two gets the higher score (BLiMP, Warstadt et al. 2020, 1912.00582).

Equal scores count half, so a constant score reaches 50% and not 0 or 100. Scores are equal if they differ by less than the rounding of float32 sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack, cast

from unmask.contracts import MLMModel
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.evaluate.estimate import Estimate, proportion
from unmask.evaluate.hidden import Progress
from unmask.evaluate.scoring import ScoringOptions, SizedModel, TextScore, score_texts
from unmask.evaluate.text_rows import InContext

ROUNDING = 1e-6  # of the larger score


class MinimalPair(NamedTuple):
    """Two sentences, of which the first is acceptable.

    Attributes:
        good, bad: the sentences.
        paradigm: what the pair tests, BLiMP's UID; empty if unknown.
        phenomenon: the group of the paradigm, BLiMP's linguistics term; empty if unknown.
        id: name of the pair.

    Examples:
        >>> MinimalPair("The cats sleep.", "The cats sleeps.", paradigm="agreement").bad
        'The cats sleeps.'
    """

    good: str
    bad: str
    paradigm: str = ""
    phenomenon: str = ""
    id: str = ""


@dataclass(frozen=True)
class PairScore:
    """The scores of a minimal pair.

    Attributes:
        pair: the pair.
        good, bad: scores of its sentences.

    Examples:
        >>> good, bad = TextScore("a", -2.0, 1, 0, True), TextScore("b", -2.0, 1, 0, True)
        >>> PairScore(MinimalPair("a", "b"), good, bad).success
        0.5
    """

    pair: MinimalPair
    good: TextScore
    bad: TextScore

    @property
    def success(self) -> float:
        """1 if the good sentence has the higher score, 0 if the bad one has, 0.5 for a tie or a sentence without a score."""
        difference = self.good.nats - self.bad.nats
        rounding = ROUNDING * max(1.0, abs(self.good.nats), abs(self.bad.nats))
        if math.isnan(difference) or abs(difference) <= rounding:
            return 0.5
        return float(difference > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object, with None for NaN."""
        pair = {name: value for name, value in self.pair._asdict().items() if value or name in ("good", "bad")}
        figures: dict[str, Any] = {"success": self.success}
        for name, score in (("good", self.good), ("bad", self.bad)):
            figures[f"{name}_nats"] = score.nats if math.isfinite(score.nats) else None
            figures[f"{name}_tokens"] = score.scored
            figures[f"{name}_unscored_tokens"] = score.unscored
        return pair | figures


def score_pairs(
    model: MLMModel,
    tokenizer: Tokenizer,
    pairs: Sequence[MinimalPair],
    *,
    template: bool = False,
    progress: Progress | None = None,
    **options: Unpack[ScoringOptions],
) -> list[PairScore]:
    """Score minimal pairs.

    Args:
        model: any ``MLMModel`` with a ``max_length``.
        tokenizer: a ``Tokenizer``.
        pairs: the pairs.
        template: add the special tokens of the tokenizer's own template ([CLS], [SEP]), with which the network was trained.
        progress: callback ``(tokens done, all tokens)``.
        options: which score (``ScoringOptions``); the pseudo-log-likelihood by default.

    Raises:
        ValueError: no pair, or as ``TrainedModel.score``.

    Examples:
        >>> import torch, unmask
        >>> tokenizer = unmask.Tokenizer.train(["the cats sleep"], vocab_size=270)
        >>> class Uniform(torch.nn.Module):
        ...     max_length = 64
        ...     def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
        ...         return torch.zeros(*x_t.shape, 270)
        >>> scores = score_pairs(Uniform(), tokenizer, [unmask.MinimalPair("xy", "yx")])
        >>> unmask.pair_accuracy(scores)["all"].value
        0.5
    """
    if not pairs:
        raise ValueError("There is no pair to score: give rows with a good and a bad sentence.")
    both = [InContext(sentence, id=pair.id) for pair in pairs for sentence in (pair.good, pair.bad)]
    scores = score_texts(cast(SizedModel, model), tokenizer, both, template=template, progress=progress, **options)
    return [PairScore(pair, *two) for pair, two in zip(pairs, zip(scores[::2], scores[1::2], strict=True), strict=True)]


def pair_accuracy(scores: Sequence[PairScore], by: str = "paradigm") -> dict[str, Estimate]:
    """Return the accuracy of each group of pairs, and of ``"all"``, with Wilson's interval.

    Args:
        scores: of the pairs.
        by: ``paradigm`` or ``phenomenon``; pairs without one are in ``"all"`` only.

    Raises:
        ValueError: no pair.

    Examples:
        >>> pair, low, high = MinimalPair("a", "b", "order"), TextScore("a", -2.0, 1, 0, True), TextScore("b", -1.0, 1, 0, True)
        >>> {name: each.value for name, each in pair_accuracy([PairScore(pair, high, low), PairScore(pair, low, high)]).items()}
        {'order': 0.5, 'all': 0.5}
    """
    groups: dict[str, list[float]] = {}
    for score in scores:
        if name := getattr(score.pair, by):
            groups.setdefault(name, []).append(score.success)
    groups["all"] = [score.success for score in scores]
    return {name: proportion(sum(found), len(found)) for name, found in groups.items()}
