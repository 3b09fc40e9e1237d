"""Confidence: how certain the model is at a position, in [0, 1]; higher is more certain.

Computed in float32 log space from the distribution over the allowed ids, before temperature and filters; in lower
precision, probabilities near 1 would tie. Log-probabilities are ``[N, V]``, confidences ``[N]``.

    top_prob    p1             probability of the most likely token
    prob_diff   p1 - p2        margin over the second most likely token
    entropy     1 - H / ln A   with A the number of allowed tokens

Near 1 a confidence rounds to 1. ``DOUBTS`` holds ``1 - confidence`` as a sum of small probabilities, without rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.registry import Registry

LogProbs = Float[Tensor, "scored vocab"]
Scores = Float[Tensor, " scored"]


def top_prob(log_probs: LogProbs) -> Scores:
    """Return the probability of the most likely token."""
    return log_probs.amax(-1).exp()


def prob_diff(log_probs: LogProbs) -> Scores:
    """Return the probability of the most likely token minus that of the second (Kim et al. 2025, 2502.06768)."""
    if log_probs.shape[-1] == 1:
        return top_prob(log_probs)
    best = log_probs.topk(2, dim=-1).values.exp()
    return best[:, 0] - best[:, 1]


def entropy_nats(log_probs: LogProbs) -> Scores:
    """Return the entropy in nats; tokens of probability zero contribute zero."""
    return -torch.where(log_probs > -torch.inf, log_probs * log_probs.exp(), 0.0).sum(-1)


def entropy(log_probs: LogProbs) -> Scores:
    """Return one minus the entropy divided by its largest value; 1 where only one token is allowed."""
    nats = entropy_nats(log_probs)
    return (1.0 - nats / possible(log_probs).clamp(min=2).log()).clamp(0.0, 1.0)


def possible(log_probs: LogProbs) -> Int[Tensor, " scored"]:
    """Return the number of allowed tokens at each position."""
    return (log_probs > -torch.inf).sum(-1)


def doubt_of_top_prob(log_probs: LogProbs) -> Scores:
    """Return ``1 - p1`` in float64: the sum of the other probabilities."""
    others = log_probs.double().exp().scatter(-1, log_probs.argmax(-1, keepdim=True), 0.0).sum(-1)
    return _never_certain(others, log_probs)


def doubt_of_prob_diff(log_probs: LogProbs) -> Scores:
    """Return ``1 - (p1 - p2)`` in float64: the sum of the other probabilities, the second counted twice."""
    odds = log_probs.double().exp().scatter(-1, log_probs.argmax(-1, keepdim=True), 0.0)
    return _never_certain(odds.sum(-1) + odds.amax(-1), log_probs)


def doubt_of_entropy(log_probs: LogProbs) -> Scores:
    """Return ``H / ln A`` in float64."""
    return _never_certain(entropy_nats(log_probs.double()) / possible(log_probs).clamp(min=2).double().log(), log_probs)


def _never_certain(doubts: Scores, log_probs: LogProbs) -> Scores:
    """Raise doubts that underflowed to just above 0 wherever more than one token is allowed."""
    # Cast the mask first: multiplied as a mask, the smallest float64 would become float32, and 0.
    least = (possible(log_probs) > 1).to(doubts.dtype) * torch.finfo(doubts.dtype).tiny
    return torch.maximum(doubts, least)


CONFIDENCES: Registry[Callable[[LogProbs], Scores]] = Registry(
    "confidence",
    {
        "top_prob": (top_prob, "probability of the most likely token"),
        "prob_diff": (prob_diff, "margin over the second most likely token"),
        "entropy": (entropy, "one minus the normalised entropy"),
    },
)
DOUBTS: dict[Callable[[LogProbs], Scores], Callable[[LogProbs], Scores]] = {
    top_prob: doubt_of_top_prob,
    prob_diff: doubt_of_prob_diff,
    entropy: doubt_of_entropy,
}
