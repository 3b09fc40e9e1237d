"""Block schedules: which masked positions may be unmasked now, and how the steps are distributed over blocks.

    SingleBlock   all of them
    Blocks        those of the first unfinished block, left to right (semi-autoregressive decoding, LLaDA 2502.09992)

Rows advance independently: each starts its next block as soon as its current one is complete.

Shapes: ``[B, L]`` bool in and out; ``positions [B, L]`` as the model counts them; plans ``[B, S]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.decode.budget import Budget, Plan, quotas, without_idle_steps
from unmask.randomness import Noise


@runtime_checkable
class BlockSchedule(Protocol):
    """Which masked positions may be unmasked.

    Examples:
        >>> import torch
        >>> from unmask.decode.block_schedule import Blocks
        >>> masked, positions = torch.tensor([[False, True, True, True]]), torch.arange(4)[None]
        >>> isinstance(Blocks(2), BlockSchedule), Blocks(2).open(masked, masked, positions).tolist()
        (True, [[False, True, True, False]])
    """

    def open(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        """Return the masked positions that may be unmasked now, at least one per row with masked positions.

        Args:
            to_fill: bool ``[b, L]``, masked at the start.
            blanks: bool ``[b, L]``, masked now.
            positions: int64 ``[b, L]``, position ids of the model.
        """
        ...

    def region(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        """Return the current block: the part of ``to_fill`` that is open, unmasked positions included."""
        ...

    def plan(
        self,
        budget: Budget,
        to_fill: Bool[Tensor, "batch seq"],
        positions: Int[Tensor, "batch seq"],
        max_steps: Int[Tensor, " batch"],
        noise: Noise,
    ) -> Plan:
        """Return the budget's plan, in which no step crosses the end of a block."""
        ...


@dataclass(frozen=True)
class SingleBlock:
    """Every masked position, at any time."""

    def open(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        return blanks

    def region(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        return to_fill

    def plan(
        self,
        budget: Budget,
        to_fill: Bool[Tensor, "batch seq"],
        positions: Int[Tensor, "batch seq"],
        max_steps: Int[Tensor, " batch"],
        noise: Noise,
    ) -> Plan:
        return budget.plan(to_fill, max_steps, noise)


@dataclass(frozen=True)
class Blocks:
    """One block after the other, left to right, each with a part of the steps and a budget of its own.

    Attributes:
        length: positions of a block.
        aligned: True counts blocks from the row's first token, like the attention blocks of a block-causal network. The row's first
            block then ends with the attention block of its first masked position. False counts from the first masked position.

    Raises:
        ValueError: a length below 1.
    """

    length: int
    aligned: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"A block of {self.length} positions is empty: give a block length of 1 or more.")

    def _block(self, to_fill: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]) -> Int[Tensor, "rows seq"]:
        """Return the block index of each position of ``to_fill``, from 0; undefined elsewhere."""
        first = to_fill.long().argmax(-1, keepdim=True)
        if self.aligned:
            return positions // self.length - positions.gather(1, first) // self.length
        return (torch.arange(to_fill.shape[1], device=to_fill.device) - first) // self.length

    def open(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        return blanks & self.region(to_fill, blanks, positions)

    def region(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        block = self._block(to_fill, positions)
        current = block.masked_fill(~blanks, to_fill.shape[1]).amin(-1, keepdim=True)
        return to_fill & (block == current)

    def plan(
        self,
        budget: Budget,
        to_fill: Bool[Tensor, "batch seq"],
        positions: Int[Tensor, "batch seq"],
        max_steps: Int[Tensor, " batch"],
        noise: Noise,
    ) -> Plan:
        block = self._block(to_fill, positions)
        last = int(block[to_fill].max()) if bool(to_fill.any()) else 0
        parts = [to_fill & (block == number) for number in range(last + 1)]
        counts = torch.stack([part.sum(-1) for part in parts], dim=1)  # (B, blocks)
        filled = counts > 0
        spare = max_steps - filled.sum(-1)
        if bool((spare < 0).any()):
            raise ValueError(
                f"Blocks of {self.length} positions cut a row into {int(filled.sum(-1).max())}, each needs a step at least, and "
                f"max_steps is {int(max_steps.min())}. Raise max_steps (--steps) or the block length (--block)."
            )
        # One step per block; further steps where several positions share one; the rest in proportion to the positions.
        crowd = counts - filled.long()
        useful = torch.minimum(spare, crowd.sum(-1))
        steps = filled.long() + _apportion(useful, crowd) + _apportion(spare - useful, counts)
        plans = [quotas(budget.plan(part, steps[:, i], noise)) for i, part in enumerate(parts)]
        return without_idle_steps(torch.cat(plans, dim=1))


def _apportion(amount: Int[Tensor, " batch"], weights: Int[Tensor, "batch blocks"]) -> Int[Tensor, "batch blocks"]:
    """Split ``amount`` into integers in proportion to the weights (into zeros where all weights are zero)."""
    return quotas(amount[:, None] * weights.cumsum(1) // weights.sum(-1, keepdim=True).clamp(min=1))
