"""The work: batches shared by all contestants.

Tokens are drawn evenly from the vocabulary, which costs as much as text. Exactly the stated fraction of every row is
masked, so the work of a step is a number and not an expectation.

    masked_rows      B full rows, a fixed fraction masked                      MLM at 15%
    diffusion_rows   B full rows, the mask rate of row i is (i + ½) / B        masked diffusion, t uniform, evenly
    spread documents        documents of log-normal length, a fixed fraction masked; ``padded`` and ``packed`` arrange
    them in rows
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from unmask.collate.packing import Packer
from unmask.contracts import IGNORED_TARGET
from unmask.ops.segments import positions_from_segments

PAD, MASK, FIRST_ORDINARY = 0, 1, 5


@dataclass(frozen=True)
class Work:
    """One batch with its counts.

    Attributes:
        batch: fields of ``MLMBatch``; tensors ``[B, L]``.
        lengths: of its documents, each with its own attention.
        scored: number of masked tokens.
    """

    batch: dict[str, Tensor]
    lengths: tuple[int, ...]
    scored: int

    @property
    def tokens(self) -> int:
        """Number of real tokens, without padding; the basis of rates."""
        return sum(self.lengths)

    @property
    def labels(self) -> Tensor:
        """Labels ``[B, L]`` for Hugging Face's models: the true id where scored, -100 elsewhere."""
        return torch.where(self.batch["noise_mask"], self.batch["target_ids"], IGNORED_TARGET)

    def to(self, device: torch.device | str) -> Work:
        """Return the same work on another device."""
        return Work({name: value.to(device) for name, value in self.batch.items()}, self.lengths, self.scored)


def _hidden(real: Tensor, shares: Tensor, generator: torch.Generator) -> Tensor:
    """Select exactly ``round(share * n)`` (at least one) of the ``n`` real positions of each row, at random."""
    n = real.sum(-1)
    count = (shares * n).round().clamp(min=1).minimum(n)
    rank = torch.rand(real.shape, generator=generator).masked_fill(~real, 2.0).argsort(-1).argsort(-1)
    return rank < count[:, None]


def _rows(ids: Tensor, real: Tensor, shares: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    hidden = _hidden(real, shares, generator)
    return {
        "input_ids": ids.masked_fill(hidden, MASK),
        "target_ids": ids.masked_fill(~real, IGNORED_TARGET),
        "noise_mask": hidden,
        "p_mask": torch.where(real, shares[:, None].float(), 0.0),
    }


def _full(rows: int, length: int, vocabulary: int, shares: Tensor, seed: int) -> Work:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST_ORDINARY, vocabulary, (rows, length), generator=generator)
    batch = _rows(ids, torch.ones_like(ids, dtype=torch.bool), shares, generator)
    return Work(batch, (length,) * rows, int(batch["noise_mask"].sum()))


def masked_rows(rows: int = 8, length: int = 512, vocabulary: int = 32_000, share: float = 0.15, seed: int = 0) -> Work:
    """Return ``rows`` full rows with the fraction ``share`` of each masked."""
    return _full(rows, length, vocabulary, torch.full((rows,), share, dtype=torch.float64), seed)


def diffusion_rows(rows: int = 8, length: int = 512, vocabulary: int = 32_000, seed: int = 0) -> Work:
    """Return ``rows`` full rows at evenly spread times: half of all tokens are masked."""
    return _full(rows, length, vocabulary, (torch.arange(rows, dtype=torch.float64) + 0.5) / rows, seed)


def document_lengths(count: int = 24, mean: float = 180.0, longest: int = 512, sigma: float = 0.8) -> tuple[int, ...]:
    """Return ``count`` evenly spaced quantiles of a log-normal law cut off at ``longest``, with this mean after the
    cut.

    Args:
        count, mean, longest: as above.
        sigma: standard deviation of the logarithm.

    Raises:
        ValueError: no such law: the mean must lie between 1 and ``longest``.
    """
    if not (count >= 1 and 1 < mean < longest and sigma > 0):
        raise ValueError(
            f"{count} documents of mean length {mean} and at most {longest} (sigma {sigma}): the mean must be between 1 and the longest."
        )
    normal = [NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)]

    def lengths(mu: float) -> list[int]:
        return [min(longest, max(1, round(math.exp(mu + sigma * z)))) for z in normal]

    low, high = 0.0, math.log(longest) + 6 * sigma
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(lengths(middle)) < mean * count else (low, middle)
    return tuple(lengths(high))


def padded(
    lengths: tuple[int, ...], block: int = 512, vocabulary: int = 32_000, share: float = 0.15, seed: int = 0
) -> Work:
    """Return one document per row, padded to ``block``, with an ``attention_mask``."""
    generator = torch.Generator().manual_seed(seed)
    order = np.random.default_rng(seed).permutation(len(lengths))
    ordered = torch.tensor(lengths)[torch.from_numpy(order)]
    real = torch.arange(block) < ordered[:, None]
    ids = torch.randint(FIRST_ORDINARY, vocabulary, real.shape, generator=generator).masked_fill(~real, PAD)
    batch = _rows(ids, real, torch.full((len(lengths),), share, dtype=torch.float64), generator)
    return Work({**batch, "attention_mask": real}, tuple(ordered.tolist()), int(batch["noise_mask"].sum()))


def packed(work: Work, block: int = 512) -> Work:
    """Return the same documents and masks as a padded batch, packed without cuts into rows of ``block`` tokens.

    The batch has ``segment_ids`` and ``positions``, and an ``attention_mask`` that excludes free slots.
    """
    real = work.batch["attention_mask"]
    places = torch.arange(1, real.numel() + 1).view(real.shape)  # 0 marks the packer's padding
    rows = list(Packer(block, pad_id=0).pack([row[mask].numpy() for row, mask in zip(places, real, strict=True)]))
    index = torch.from_numpy(np.stack([row["input_ids"] for row in rows]))
    segments = torch.from_numpy(np.stack([row["segment_ids"] for row in rows]))
    real_slots, source = index > 0, (index - 1).clamp(min=0)
    fill = {"input_ids": PAD, "target_ids": IGNORED_TARGET, "noise_mask": False, "p_mask": 0.0}
    batch = {name: work.batch[name].flatten()[source].masked_fill(~real_slots, value) for name, value in fill.items()}
    batch |= {
        "attention_mask": real_slots,
        "segment_ids": segments,
        "positions": positions_from_segments(segments).masked_fill(~real_slots, 0),
    }
    return Work(batch, work.lengths, work.scored)
