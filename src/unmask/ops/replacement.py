"""Replacement: the new token of each selected position: ``[MASK]``, a random ordinary token, or the same token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask import arrays
from unmask.arrays import as_array, as_tensor, copy, flat_nonzero, to_int64
from unmask.randomness import Noise, Stream


@dataclass(frozen=True)
class Replacement:
    """Probabilities of masking, randomising and keeping the selected positions.

    Attributes:
        mask_token_id: id of ``[MASK]``; never drawn as a random token.
        mask_replace_prob, random_replace_prob: fractions of the selected positions that are masked or randomised; the
            rest keep their token, and are scored all the same.
        ordinary_ids: int64 ``[n]``, the ids random tokens are drawn from; needed if ``random_replace_prob > 0``.
        runs: mask, randomise or keep each run of adjacent selected positions together, with independent random tokens
            within a run (SpanBERT, Joshi et al. 2020, section 3.1); False = each position separately.

    Examples:
        >>> import torch
        >>> replace = Replacement(mask_token_id=0)
        >>> replace(torch.tensor([[5, 6]]), torch.tensor([[True, False]]), Noise(torch.tensor([7]))).tolist()
        [[0, 6]]
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
                f"mask_replace_prob={self.mask_replace_prob} and random_replace_prob={self.random_replace_prob} are fractions "
                "of the selected positions: both must be at least 0 and their sum at most 1."
            )
        if self.random_replace_prob > 0 and (self.ordinary_ids is None or len(self.ordinary_ids) == 0):
            raise ValueError("Random replacement needs ordinary_ids: the ids of the vocabulary that are not special.")

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], selected: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Int[Tensor, "batch seq"]:
        """Return ``input_ids`` with a replacement at each ``selected`` position, unchanged elsewhere."""
        if self.mask_replace_prob >= 1.0:
            return _masked(input_ids, selected, self.mask_token_id)
        length, clean = input_ids.shape[1], as_array(input_ids).reshape(-1)
        noisy = copy(clean)
        where = flat_nonzero(as_array(selected))  # draw noise for these positions only
        kind = noise.words_at(Stream.KIND, as_array(_run_starts(selected)).take(where) if self.runs else where, length)
        if self.mask_replace_prob > 0:
            noisy[where] = self.mask_token_id
            rest = flat_nonzero(kind >= _limit(self.mask_replace_prob))  # few
            where, kind = where.take(rest), kind.take(rest)
            noisy[where] = clean.take(where)
        if self.random_replace_prob > 0:
            assert self.ordinary_ids is not None
            ordinary = as_array(
                self.ordinary_ids if arrays.on_host(input_ids) else self.ordinary_ids.to(input_ids.device)
            )
            if self.mask_replace_prob + self.random_replace_prob < 1:
                random = flat_nonzero(kind < _limit(self.mask_replace_prob + self.random_replace_prob))
                where, kind = where.take(random), kind.take(random)
            # Within its interval of (0, 1) the number is uniform again and picks the token, unless a run shares it.
            if self.runs:
                fraction = noise.words_at(Stream.TOKEN, where, length) * 2.0**-64 + 0.5
            else:
                fraction = (kind * 2.0**-64 + (0.5 - self.mask_replace_prob)) / self.random_replace_prob
            # The factor keeps the index below the number of ids where a fraction rounds to 1.
            drawn = to_int64(fraction * (len(ordinary) * (1 - 2.0**-50)))
            noisy[where] = ordinary.take(drawn)
        return as_tensor(noisy.reshape(input_ids.shape))


def _limit(rate: float) -> int:
    """Return the signed 64-bit word below which a fraction ``rate`` of all words lies."""
    return min(int(rate * 2**64) - 2**63, 2**63 - 1)


def _masked(
    input_ids: Int[Tensor, "batch seq"], selected: Bool[Tensor, "batch seq"], mask: int
) -> Int[Tensor, "batch seq"]:
    return as_tensor(arrays.filled(as_array(input_ids), as_array(selected), mask))


def _run_starts(selected: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return, for each selected position, the flat index of the first position of its run."""
    index = torch.arange(selected.numel(), device=selected.device).view_as(selected)
    first = selected.clone()
    first[:, 1:] &= ~selected[:, :-1]
    return torch.where(first, index, 0).cummax(-1).values


def ordinary_ids(vocab_size: int, special_ids: tuple[int, ...]) -> Int[Tensor, " ordinary"]:
    """Return the ids of a vocabulary that are not special, ascending; one read-only tensor for all calls."""
    return _ordinary_ids(vocab_size, tuple(sorted({int(i) for i in special_ids if i < vocab_size})))


@lru_cache(maxsize=16)
def _ordinary_ids(vocab_size: int, special_ids: tuple[int, ...]) -> Int[Tensor, " ordinary"]:
    return torch.from_numpy(np.delete(np.arange(vocab_size), special_ids))
