"""Replacement: what stands at the chosen positions, ``[MASK]``, a random ordinary token, or the token itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.randomness import Noise, Stream


@dataclass(frozen=True)
class Replacement:
    """What to put at the chosen positions.

    Attributes:
        mask_token_id: id of ``[MASK]``; never drawn as a random token.
        mask_rate, random_rate: shares of the chosen positions that are masked or randomised; the rest keep
            their token (and are scored all the same).
        ordinary_ids: int64 ``[n]``, the ids a random token may be; needed if ``random_rate > 0``.
        runs: each run of neighbouring chosen positions is masked, randomised or kept as a whole, with a random token of its
            own at each position (SpanBERT, Joshi et al. 2020, section 3.1); False = each position for itself.
    """

    mask_token_id: int
    mask_rate: float = 1.0
    random_rate: float = 0.0
    ordinary_ids: Int[Tensor, " ordinary"] | None = None
    runs: bool = False

    def __post_init__(self) -> None:
        if self.mask_rate < 0 or self.random_rate < 0 or self.mask_rate + self.random_rate > 1 + 1e-9:
            raise ValueError(
                f"Of the chosen positions a share mask_rate={self.mask_rate} is masked and a share "
                f"random_rate={self.random_rate} is randomised: both must be at least 0 and their sum at most 1."
            )
        if self.random_rate > 0 and (self.ordinary_ids is None or len(self.ordinary_ids) == 0):
            raise ValueError("Random replacement needs ordinary_ids: the ids of the vocabulary that are not special.")

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], chosen: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Int[Tensor, "batch seq"]:
        """``input_ids`` with something else, or not, at each of the ``chosen`` positions; the rest is untouched."""
        if self.mask_rate >= 1.0:
            return torch.where(chosen, self.mask_token_id, input_ids)
        row, column = chosen.nonzero().unbind(-1)  # noise is drawn for these alone
        where = row * input_ids.shape[1] + column
        kind = noise.at(Stream.KIND, row, _run_starts(chosen)[row, column] if self.runs else column)
        noisy = input_ids.flatten().clone()
        there = noisy.index_select(0, where)
        if self.random_rate > 0:
            assert self.ordinary_ids is not None
            ordinary = self.ordinary_ids.to(input_ids.device)
            # Within its share of (0, 1) the number is uniform once more: it also says which token, unless a run shares it.
            draw = noise.at(Stream.TOKEN, row, column) * len(ordinary) if self.runs else (kind - self.mask_rate) * (len(ordinary) / self.random_rate)
            drawn = ordinary.index_select(0, draw.long().clamp_(0, len(ordinary) - 1))
            there = torch.where(kind < self.mask_rate + self.random_rate, drawn, there)
        there = torch.where(kind < self.mask_rate, self.mask_token_id, there)
        return noisy.index_copy_(0, where, there).view_as(input_ids)


def _run_starts(chosen: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """The index of the first position of the run that each chosen position is in."""
    index = torch.arange(chosen.shape[1], device=chosen.device)
    first = chosen.clone()
    first[:, 1:] &= ~chosen[:, :-1]
    return torch.where(first, index, 0).cummax(-1).values


def ordinary_ids(vocab_size: int, special_ids: tuple[int, ...]) -> Int[Tensor, " ordinary"]:
    """The ids of a vocabulary that are not special, ascending."""
    keep = torch.ones(vocab_size, dtype=torch.bool)
    keep[[i for i in special_ids if i < vocab_size]] = False
    return keep.nonzero()[:, 0]
