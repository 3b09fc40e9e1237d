"""The shape of every corruption: clean tokens in, noisy tokens out.

Every scheme answers three questions, in this order:

    level      how much of a row to hide     a constant, U(eps, 1), a schedule          unmask.ops.mask_rates
    choice     which positions to hide       coins, exactly k, weighted, spans          unmask.ops.position_sampling, .spans
    replace    what to put there             [MASK], a random token, itself             unmask.ops.replacement

and a :class:`Corruption` is one answer to each; the named ones are in ``unmask.ops.corruption``. Two more say over what the questions are asked: rows may be cut into
blocks, each with a level of its own, and tokens may be bound into words that are hidden together.

A position that is not eligible is never hidden. All noise is keyed by row (see ``unmask.randomness``), so a row is
corrupted alike in any batch. Shapes: ids, masks and probabilities ``[B, L]``; levels ``[B]`` in [0, 1], float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import Corrupted
from unmask.ops.mask_rates import MaskRate
from unmask.ops.position_sampling import PositionSampler
from unmask.ops.replacement import Replacement
from unmask.randomness import Noise, Stream, fold

GOLDEN_RATIO = (5**0.5 - 1) / 2
Granularity = Callable[[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"]], Int[Tensor, "batch seq"]]


@dataclass(frozen=True)
class Corruption:
    """One answer to each of the questions.

    Attributes:
        level: uniforms ``[B]`` -> mask rates ``[B]``.
        selection: rates, eligible, noise -> chosen positions and their probabilities.
        replacement: what goes to the chosen positions.
        is_bound: True where the ``1/p``-weighted loss is a likelihood bound, so that bits per token may be
            reported from it.
        block_size: each block of so many positions, counted from the row's first real token, is corrupted as if it
            were a row, with its own level (Arriola et al. 2025); None = the whole row is one block. Levels of a row's blocks
            are independent. Only noise with given ``levels`` (``unmask.ops.time_sampling``) spreads them evenly, by the golden ratio.
        units: ids, eligible -> index of the first token of each token's unit, ``[B, L]``, which is eligible if the others
            are. The choice is made among first tokens, and a unit goes with its own: coins are tossed once a unit, and
            counts count units (``unmask.ops.whole_words``, ``unmask.ops.instructions``). None = tokens are units.
    """

    mask_rate: MaskRate
    selection: PositionSampler
    replacement: Replacement
    is_elbo: bool = True
    block_size: int | None = None
    granularity: Granularity | None = None

    def __post_init__(self) -> None:
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(
                f"block_size={self.block_size}: a block has at least one token; None makes a row one block."
            )

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Corrupted:
        """Hide part of each row.

        Args:
            input_ids: int64 ``[B, L]``, clean.
            eligible: bool ``[B, L]``, True where a token may be hidden.
            noise: the rows' keyed noise.

        Returns:
            Noisy ids, the scored positions (a subset of ``eligible``), and the probability (float32) with which each
            eligible position was to be hidden; what it says of other positions means nothing.
        """
        if not input_ids.numel():  # no rows, or rows of nothing
            return Corrupted(input_ids.clone(), eligible.clone(), torch.zeros(eligible.shape, device=eligible.device))
        if self.granularity is None:
            chosen, p = self._choose(eligible, noise)
        else:
            unit = self.granularity(input_ids, eligible)
            first = unit == torch.arange(unit.shape[1], device=unit.device)
            chosen, p = self._choose(eligible & first, noise)
            chosen, p = chosen.gather(-1, unit) & eligible, p.gather(-1, unit)
        return Corrupted(
            self.replacement(input_ids, chosen, noise), chosen, p if p.dtype == torch.float32 else p.float()
        )

    def at(self, progress: Float[Tensor, " batch"]) -> Corruption:
        """The corruption when the share ``progress`` of training is done, one value a row (curricula)."""
        return replace(self, mask_rate=self.mask_rate.at(progress))

    def _choose(self, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        if self.block_size is None:
            return self.selection(self.mask_rate.draw(noise), eligible, noise)
        return self._in_blocks(eligible, noise)

    def _in_blocks(self, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Choose within each block as in a row: blocks ``[B, K, W]`` become rows ``[B * K, W]``, and come back."""
        assert self.block_size is not None
        rows, width = eligible.shape
        counters = torch.arange(width, device=eligible.device).expand(rows, width)
        shift = torch.zeros_like(counters[:, :1])
        if noise.counters is not None:  # real tokens start where the counter is 0, and so does the first block
            counters = noise.counters
            shift = (counters < 0).sum(-1, keepdim=True)
        blocks = -(-width // self.block_size)
        source = torch.arange(blocks * self.block_size, device=eligible.device) + shift  # [B, K * W]
        inside = source < width
        source = source.clamp(max=width - 1)
        number = torch.arange(blocks, device=eligible.device).expand(rows, blocks)
        folded = Noise(
            fold(fold(noise.keys, int(Stream.BLOCK))[:, None].expand(rows, blocks), number).flatten(),
            counters.gather(-1, source).view(rows * blocks, self.block_size),
        )
        if noise.row_uniforms is None:
            u = folded.per_row(Stream.MASK_RATE).view(rows, blocks)
        else:  # times are spread over the batch: so are those of a row's blocks, in steps of the golden ratio
            u = (noise.row_uniforms[:, None] + number * GOLDEN_RATIO).frac().clamp(min=2.0**-53)
        mask_rate = torch.stack([self.mask_rate(u[:, i]) for i in range(blocks)], dim=1).flatten()
        chosen, p = self.selection(
            mask_rate, (eligible.gather(-1, source) & inside).view(rows * blocks, self.block_size), folded
        )
        back = (torch.arange(width, device=eligible.device) - shift).clamp(min=0)
        return chosen.view(rows, -1).gather(-1, back) & eligible, p.reshape(rows, -1).gather(-1, back)
