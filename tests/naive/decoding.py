"""Slow reference decoding: an exact model of an enumerable joint distribution, and rules as sums and loops."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from unmask.contracts import SpecialIds

MASK, PAD, EOS = 0, 1, 2
FIRST_WORD = 3


def specials(words: int) -> SpecialIds:
    """Return special ids: mask, PAD and EOS, then ``words`` ordinary ids."""
    return SpecialIds(mask=MASK, pad=PAD, eos=EOS, vocab_size=FIRST_WORD + words)


class ExactModel:
    """The true conditionals of a joint distribution over sequences of ``length`` words, by enumeration. Counts its forward passes.

    Special ids have the highest logits: a decoder that does not forbid them places them.
    """

    def __init__(self, joint: Tensor) -> None:
        self.words, self.length = joint.shape[0], joint.dim()
        self.sequences = torch.tensor(list(product(range(self.words), repeat=self.length))) + FIRST_WORD  # (K, L)
        self.p = joint.double().flatten() / joint.sum()
        self.forward_passes = 0
        self.rows_evaluated = 0

    def __call__(
        self,
        x_t: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        block_mask: object = None,
    ) -> Tensor:
        self.forward_passes += 1
        self.rows_evaluated += len(x_t)
        logits = torch.full((*x_t.shape, FIRST_WORD + self.words), 50.0, dtype=torch.float64)
        real = torch.ones_like(x_t, dtype=torch.bool) if attention_mask is None else attention_mask
        row = x_t[real].view(len(x_t), self.length)
        agrees = ((self.sequences[None] == row[:, None]) | (row[:, None] == MASK)).all(-1)  # (B, K)
        weight = agrees * self.p
        for word in range(self.words):
            has = (self.sequences == FIRST_WORD + word).double()  # (K, L)
            marginal = (weight @ has) / weight.sum(-1, keepdim=True)
            column = torch.zeros(x_t.shape, dtype=torch.float64)
            column[real] = marginal.log().flatten()
            logits[..., FIRST_WORD + word] = column
        return logits


class TableModel:
    """Fixed logits per position, independent of the context: a factorised model. Counts its forward passes."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.forward_passes = 0

    def __call__(
        self,
        x_t: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        block_mask: object = None,
    ) -> Tensor:
        self.forward_passes += 1
        assert positions is not None
        return self.logits[positions]


def table(rows: list[list[float]], special_logit: float = 9.0) -> Tensor:
    """Return the logits of a ``TableModel`` from word probabilities per position; special ids have ``special_logit``."""
    words = torch.tensor(rows, dtype=torch.float64).log()
    return torch.cat([torch.full((len(rows), FIRST_WORD), special_logit, dtype=torch.float64), words], dim=1)


def even_quotas(blanks: int, max_steps: int) -> list[int]:
    """Return quotas that sum to ``blanks``, differ by at most one, and are never zero."""
    steps = min(blanks, max_steps)
    return [blanks * (i + 1) // steps - blanks * i // steps for i in range(steps)]


def chi_square(counts: Tensor, p: Tensor) -> float:
    """Return the chi-square statistic in standard deviations above its mean, over cells of positive probability."""
    expected = p[p > 0] * counts.sum()
    statistic = ((counts[p > 0] - expected) ** 2 / expected).sum().item()
    degrees = len(expected) - 1
    return (statistic - degrees) / math.sqrt(2 * degrees)


def cumulative_error_count(confidence: list[float], most: float) -> int:
    """Return the number of most confident positions whose errors, without the largest, sum to less than ``most``."""
    errors = sorted(1 - c for c in confidence)
    return sum(sum(errors[: n + 1]) - max(errors[: n + 1]) < most for n in range(len(errors)))


def factor_count(confidence: list[float], most: float) -> int:
    """Return the largest ``n`` with ``(n + 1) (1 - c_n) < most``, 0 if there is none."""
    falling = sorted(confidence, reverse=True)
    return max([n for n in range(1, len(falling) + 1) if (n + 1) * (1 - falling[n - 1]) < most], default=0)


def accepted(automaton: object, tokens: list[int]) -> bool:
    """Return whether an automaton accepts a row of tokens."""
    state = automaton.start  # type: ignore[attr-defined]
    for token in tokens:
        state = int(automaton.transitions[state, token])  # type: ignore[attr-defined]
        if state < 0:
            return False
    return bool(automaton.accepting[state])  # type: ignore[attr-defined]
