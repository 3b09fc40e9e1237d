"""Confidence: how sure the model is of a position, in [0, 1], higher is surer.

Computed on the untempered, unfiltered distribution over the ids that may be placed there, in float32 log space
(low-precision probabilities tie near 1). Log-probabilities come in as ``[N, V]``, scores leave as ``[N]``.

    top_prob    p1             probability of the most likely token
    prob_diff   p1 - p2        margin over the runner-up
    entropy     1 - H / ln A   with A the number of allowed tokens
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

LogProbs = Float[Tensor, "scored vocab"]
Scores = Float[Tensor, " scored"]


def top_prob(log_probs: LogProbs) -> Scores:
    """Probability of the most likely token."""
    return log_probs.amax(-1).exp()


def prob_diff(log_probs: LogProbs) -> Scores:
    """Probability of the most likely token minus that of the second (Kim et al. 2025, 2502.06768)."""
    if log_probs.shape[-1] == 1:
        return top_prob(log_probs)
    best = log_probs.topk(2, dim=-1).values.exp()
    return best[:, 0] - best[:, 1]


def entropy_nats(log_probs: LogProbs) -> Scores:
    """Entropy in nats; tokens of probability zero add nothing."""
    return -torch.where(log_probs > -torch.inf, log_probs * log_probs.exp(), 0.0).sum(-1)


def entropy(log_probs: LogProbs) -> Scores:
    """One minus the entropy as a share of its largest value; 1 where only one token is allowed."""
    nats = entropy_nats(log_probs)
    allowed = (log_probs > -torch.inf).sum(-1)
    return (1.0 - nats / allowed.clamp(min=2).log()).clamp(0.0, 1.0)


CONFIDENCES: dict[str, Callable[[LogProbs], Scores]] = {"top_prob": top_prob, "prob_diff": prob_diff, "entropy": entropy}
