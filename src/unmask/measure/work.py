"""The work: batches of the contract that every contestant gets alike.

Tokens are drawn evenly from the vocabulary, which costs what text costs. Exactly the stated share of every row is hidden, so the
work of a step is a number and not an expectation.

    masked_rows      B full rows, a fixed share hidden                     MLM at 15%
    diffusion_rows   B full rows, the share of row i is (i + ½) / B        masked diffusion, t uniform, evenly spread
    documents        documents of log-normal length, a fixed share hidden; ``padded`` and ``packed`` make rows of them
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
    """One batch, and what it holds.

    Attributes:
        batch: fields of the contract; tensors ``[B, L]``.
        lengths: of the documents in it, each attended on its own.
        scored: hidden tokens.
    """

    batch: dict[str, Tensor]
    lengths: tuple[int, ...]
    scored: int

    @property
    def tokens(self) -> int:
        """Real tokens, which are what a rate counts; padding does not."""
        return sum(self.lengths)

    @property
    def labels(self) -> Tensor:
        """``[B, L]`` as Hugging Face's models want them: the true id where scored, -100 elsewhere."""
        return torch.where(self.batch["noise_mask"], self.batch["target_ids"], IGNORED_TARGET)

    def to(self, device: torch.device | str) -> Work:
        """The same on another device."""
        return Work({name: value.to(device) for name, value in self.batch.items()}, self.lengths, self.scored)


def _hidden(real: Tensor, shares: Tensor, generator: torch.Generator) -> Tensor:
    """Exactly ``round(share * n)`` (at least one) of the ``n`` real positions of each row, at random."""
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
    """``rows`` full rows with ``share`` of each hidden."""
    return _full(rows, length, vocabulary, torch.full((rows,), share, dtype=torch.float64), seed)


def diffusion_rows(rows: int = 8, length: int = 512, vocabulary: int = 32_000, seed: int = 0) -> Work:
    """``rows`` full rows at evenly spread times: half of all tokens are hidden."""
    return _full(rows, length, vocabulary, (torch.arange(rows, dtype=torch.float64) + 0.5) / rows, seed)


def document_lengths(count: int = 24, mean: float = 180.0, longest: int = 512, sigma: float = 0.8) -> tuple[int, ...]:
    """``count`` evenly spaced quantiles of a log-normal law that is cut off at ``longest``, with this mean after the cut.

    Args:
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
    """One document a row, padded to ``block``, with an ``attention_mask``."""
    generator = torch.Generator().manual_seed(seed)
    order = np.random.default_rng(seed).permutation(len(lengths))
    ordered = torch.tensor(lengths)[torch.from_numpy(order)]
    real = torch.arange(block) < ordered[:, None]
    ids = torch.randint(FIRST_ORDINARY, vocabulary, real.shape, generator=generator).masked_fill(~real, PAD)
    batch = _rows(ids, real, torch.full((len(lengths),), share, dtype=torch.float64), generator)
    return Work({**batch, "attention_mask": real}, tuple(ordered.tolist()), int(batch["noise_mask"].sum()))


def packed(work: Work, block: int = 512) -> Work:
    """The very documents of a padded batch, hidden tokens and all, packed whole into rows of ``block`` tokens.

    The batch has ``segment_ids`` and ``positions``, and an ``attention_mask`` that leaves out what remained free.
    """
    real = work.batch["attention_mask"]
    places = torch.arange(1, real.numel() + 1).view(real.shape)  # 0 is what the packer fills with
    rows = list(Packer(block, pad_id=0).pack([row[mask].numpy() for row, mask in zip(places, real, strict=True)]))
    index = torch.from_numpy(np.stack([row["input_ids"] for row in rows]))
    segments = torch.from_numpy(np.stack([row["segment_ids"] for row in rows]))
    there, source = index > 0, (index - 1).clamp(min=0)
    fill = {"input_ids": PAD, "target_ids": IGNORED_TARGET, "noise_mask": False, "p_mask": 0.0}
    batch = {name: work.batch[name].flatten()[source].masked_fill(~there, value) for name, value in fill.items()}
    batch |= {
        "attention_mask": there,
        "segment_ids": segments,
        "positions": positions_from_segments(segments).masked_fill(~there, 0),
    }
    return Work(batch, work.lengths, work.scored)
