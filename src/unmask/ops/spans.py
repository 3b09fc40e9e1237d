"""Span masking: runs of tokens of geometric length (SpanBERT, Joshi et al. 2020, section 3.1).

A span starts at each position independently with a start rate; its length is geometric, cut off at a maximum. The union
of all spans is masked. Spans end before ineligible positions (special tokens, separators, the end of the row).
The start rate is solved for so that every eligible position is masked with exactly the row's mask rate. At the first
position of a run this includes spans that would have started before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.arrays import as_array, as_tensor, flat_nonzero, running_maximum
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
        before = _running_maximum(torch.where(eligible, -1, index))  # the ineligible position before each
        run_start = eligible & (index == before + 1)

        starts = noise.bernoulli(rate, eligible, Stream.SELECTION)[0]
        ends = torch.where(eligible, index, 0)
        flat = ends.view(-1)
        where = flat_nonzero(as_array(starts))  # draw noise for these positions only
        draw, where = noise.per_token_at(Stream.LENGTH, where, width), as_tensor(where)
        flat[where] += 1 + torch.searchsorted(law.cumsum(0), draw).clamp(max=self.longest - 1)
        # Spans from before a run reach into it: P(reach at most d) = product over the starts that reach beyond d.
        missed = (1 - rate[:, None] * at_least).log().flip(-1).cumsum(-1).flip(-1).exp()  # [B, longest]
        at_most = torch.cat([missed[:, 1:], torch.ones_like(missed[:, :1])], dim=-1)  # reach 0, 1, .., longest - 1
        where = flat_nonzero(as_array(run_start))
        draw, where = noise.per_token_at(Stream.REACH, where, width), as_tensor(where)
        reach = torch.searchsorted(at_most[where // max(1, width)], draw[:, None])[:, 0]
        flat[where] = torch.maximum(flat[where], where % max(1, width) + reach)
        # A span ends with its run: add a large number per run, so that the ends of later runs are always larger.
        offset = (before + 1) * (width + self.longest + 1)
        covered = _running_maximum(offset + ends) - offset > index
        return covered & eligible, mask_rate[:, None].expand(eligible.shape)


def _running_maximum(x: Tensor) -> Tensor:
    return as_tensor(running_maximum(as_array(x)))


def _start_rate(mask_rate: Float[Tensor, " batch"], at_least: Float[Tensor, " longest"]) -> Float[Tensor, " batch"]:
    """Return the start rate ``q`` at which a position is covered with probability ``mask_rate``, by bisection."""
    rates, row = np.unique(mask_rate.double().cpu().numpy(), return_inverse=True)
    law, low, high = at_least.double().cpu().numpy(), np.zeros_like(rates), np.ones_like(rates)
    for _ in range(60):
        middle = (low + high) / 2
        below = 1 - (1 - middle[:, None] * law).prod(-1) < rates
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return torch.from_numpy(np.where(rates >= 1, 1.0, (low + high) / 2)[row]).to(mask_rate)
