"""Span masking: runs of tokens of geometric length (SpanBERT, Joshi et al. 2020, section 3.1).

A span starts at each position independently with a start rate; its length is geometric, cut off at a maximum. The union
of all spans is masked. Spans end before ineligible positions (special tokens, separators, the end of the row).
The start rate is solved for so that every eligible position is masked with exactly the row's mask rate. At the first
position of a run this includes spans that would have started before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.randomness import Noise, Stream


@dataclass(frozen=True)
class Spans:
    """A position sampler of runs of tokens.

    Attributes:
        success: success probability of the geometric law; spans have ``1 / success`` tokens on average before the cut.
        longest: largest length in tokens. The published values 0.2 and 10 have a mean of 3.8 tokens.
    """

    success: float = 0.2
    longest: int = 10

    def __post_init__(self) -> None:
        if not 0.0 < self.success < 1.0 or self.longest < 1:
            raise ValueError(
                f"Span lengths are geometric with success={self.success} up to longest={self.longest}: give a success probability "
                "between 0 and 1 (0.2 is usual) and a longest span of at least 1 token."
            )

    def lengths(self) -> Float[Tensor, " longest"]:
        """Return the probability of each length ``1..longest``, float64."""
        law = self.success * (1 - self.success) ** torch.arange(self.longest, dtype=torch.float64)
        return law / law.sum()

    def __call__(
        self, mask_rate: Float[Tensor, " batch"], eligible: Bool[Tensor, "batch seq"], noise: Noise
    ) -> tuple[Bool[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
        width, device = eligible.shape[1], eligible.device
        law = self.lengths().to(device)
        at_least = law.flip(0).cumsum(0).flip(0)  # [longest], P(length > d) for d = 0..longest-1
        rate = _start_rate(mask_rate, at_least)
        index = torch.arange(width, device=device).expand(eligible.shape)
        before = torch.where(eligible, -1, index).cummax(-1).values  # the ineligible position before each
        run_start = eligible & (index == before + 1)

        starts = noise.bernoulli(rate, eligible, Stream.SELECTION)[0]
        draw = noise.per_token(Stream.LENGTH, width)
        length = 1 + torch.searchsorted(law.cumsum(0), draw).clamp(max=self.longest - 1)
        # Spans from before a run reach into it: P(reach at most d) = product over the starts that reach beyond d.
        missed = (1 - rate[:, None] * at_least).log().flip(-1).cumsum(-1).flip(-1).exp()  # [B, longest]
        at_most = torch.cat([missed[:, 1:], torch.ones_like(missed[:, :1])], dim=-1)  # reach 0, 1, .., longest - 1
        reach = torch.searchsorted(at_most.contiguous(), noise.per_token(Stream.REACH, width))
        ends = torch.where(starts, index + length, index)
        ends = torch.where(run_start, torch.maximum(ends, index + reach), ends)
        ends = torch.where(eligible, ends, 0)
        # A span ends with its run: add a large number per run, so that the ends of later runs are always larger.
        run = before + 1
        covered = (
            (run * (width + self.longest + 1) + ends).cummax(-1).values - run * (width + self.longest + 1)
        ) > index
        return covered & eligible, mask_rate[:, None].expand(eligible.shape)


def _start_rate(mask_rate: Float[Tensor, " batch"], at_least: Float[Tensor, " longest"]) -> Float[Tensor, " batch"]:
    """Return the start rate ``q`` at which a position is covered with probability ``mask_rate``, by bisection."""
    low, high = torch.zeros_like(mask_rate), torch.ones_like(mask_rate)
    for _ in range(60):
        middle = (low + high) / 2
        below = 1 - (1 - middle[:, None] * at_least).prod(-1) < mask_rate
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(mask_rate >= 1, 1.0, (low + high) / 2)
