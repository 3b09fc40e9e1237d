"""Replacement: what stands at the chosen positions, ``[MASK]``, a random ordinary token, or the token itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask import arrays
from unmask.arrays import as_array, as_tensor, copy, flat_nonzero, to_int64
from unmask.randomness import Noise, Stream


@dataclass(frozen=True)
class Replacement:
    """What to put at the chosen positions.

    Attributes:
        mask_token_id: id of ``[MASK]``; never drawn as a random token.
        mask_replace_prob, random_replace_prob: shares of the chosen positions that are masked or randomised; the rest keep
            their token (and are scored all the same).
        ordinary_ids: int64 ``[n]``, the ids a random token may be; needed if ``random_replace_prob > 0``.
        runs: each run of neighbouring chosen positions is masked, randomised or kept as a whole, with a random token of its
            own at each position (SpanBERT, Joshi et al. 2020, section 3.1); False = each position for itself.
    """

    mask_token_id: int
    mask_replace_prob: float = 1.0
    random_replace_prob: float = 0.0
    ordinary_ids: Int[Tensor, " ordinary"] | None = None
    runs: bool = False

    def __post_init__(self) -> None:
        if (
            self.mask_replace_prob < 0
            or self.random_replace_prob < 0
            or self.mask_replace_prob + self.random_replace_prob > 1 + 1e-9
        ):
            raise ValueError(
                f"Of the chosen positions a share mask_replace_prob={self.mask_replace_prob} is masked and a share "
                f"random_replace_prob={self.random_replace_prob} is randomised: both must be at least 0 and their sum at most 1."
            )
        if self.random_replace_prob > 0 and (self.ordinary_ids is None or len(self.ordinary_ids) == 0):
            raise ValueError("Random replacement needs ordinary_ids: the ids of the vocabulary that are not special.")

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], chosen: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Int[Tensor, "batch seq"]:
        """``input_ids`` with something else, or not, at each of the ``chosen`` positions; the rest is untouched."""
        if self.mask_replace_prob >= 1.0:
            return _masked(input_ids, chosen, self.mask_token_id)
        length, clean = input_ids.shape[1], as_array(input_ids).reshape(-1)
        noisy = copy(clean)
        where = flat_nonzero(as_array(chosen))  # noise is drawn for these alone
        kind = noise.words_at(Stream.KIND, as_array(_run_starts(chosen)).take(where) if self.runs else where, length)
        noisy[where] = self.mask_token_id
        rest = flat_nonzero(kind >= _limit(self.mask_replace_prob))  # few
        where, kind = where.take(rest), kind.take(rest)
        noisy[where] = clean.take(where)
        if self.random_replace_prob > 0:
            assert self.ordinary_ids is not None
            ordinary = as_array(
                self.ordinary_ids if arrays.on_host(input_ids) else self.ordinary_ids.to(input_ids.device)
            )
            random = kind < _limit(self.mask_replace_prob + self.random_replace_prob)
            where = where[random]
            # Within its share of (0, 1) the number is uniform once more: it also says which token, unless a run shares it.
            if self.runs:
                share = noise.words_at(Stream.TOKEN, where, length) * 2.0**-64 + 0.5
            else:
                share = (kind[random] * 2.0**-64 + (0.5 - self.mask_replace_prob)) / self.random_replace_prob
            drawn = to_int64(
                share * (len(ordinary) * (1 - 2.0**-50))
            )  # below their number also where a share next to 1 was rounded
            noisy[where] = ordinary.take(drawn)
        return as_tensor(noisy.reshape(input_ids.shape))


def _limit(rate: float) -> int:
    """A share ``rate`` of all signed words of 64 bits is below it."""
    return min(int(rate * 2**64) - 2**63, 2**63 - 1)


def _masked(
    input_ids: Int[Tensor, "batch seq"], chosen: Bool[Tensor, "batch seq"], mask: int
) -> Int[Tensor, "batch seq"]:
    if arrays.on_host(input_ids):  # NumPy takes a number as it is, torch makes a tensor of it first
        return torch.from_numpy(np.where(chosen.numpy(), mask, input_ids.numpy()))
    return torch.where(chosen, mask, input_ids)


def _run_starts(chosen: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """The index, in the flattened batch, of the first position of the run that each chosen position is in."""
    index = torch.arange(chosen.numel(), device=chosen.device).view_as(chosen)
    first = chosen.clone()
    first[:, 1:] &= ~chosen[:, :-1]
    return torch.where(first, index, 0).cummax(-1).values


def ordinary_ids(vocab_size: int, special_ids: tuple[int, ...]) -> Int[Tensor, " ordinary"]:
    """The ids of a vocabulary that are not special, ascending."""
    keep = torch.ones(vocab_size, dtype=torch.bool)
    keep[[i for i in special_ids if i < vocab_size]] = False
    return keep.nonzero()[:, 0]
