"""Windows: which blanks may be revealed now, and how the steps are shared out among them.

    Everywhere   all of them
    Blocks       the blanks of the first unfinished block, left to right (semi-autoregressive decoding, LLaDA 2502.09992)

A row moves on to its next block as soon as it has finished one, whatever its batch mates do.

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
    """Where tokens may be revealed."""

    def open(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        """The blanks that may be revealed now; ``wanted`` were blank at the start. At least one of every row with blanks."""
        ...

    def region(
        self, to_fill: Bool[Tensor, "rows seq"], blanks: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]
    ) -> Bool[Tensor, "rows seq"]:
        """The part of ``wanted`` that is being worked on: the open blanks and those filled beside them."""
        ...

    def plan(
        self,
        budget: Budget,
        to_fill: Bool[Tensor, "batch seq"],
        positions: Int[Tensor, "batch seq"],
        max_steps: Int[Tensor, " batch"],
        noise: Noise,
    ) -> Plan:
        """The budget's plan, in which no step reaches beyond the window."""
        ...


@dataclass(frozen=True)
class SingleBlock:
    """Every blank, at any time."""

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
    """One block after the other, left to right, each with its share of the steps and a budget of its own.

    Attributes:
        length: positions of a block.
        aligned: count them from the row's first token, as a block-causal network does its attention blocks, so that a row's first
            block ends where the attention block that its first blank is in ends. If not, from its first blank.
    """

    length: int
    aligned: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"A block of {self.length} positions holds nothing: give a block length of 1 or more.")

    def _block(self, to_fill: Bool[Tensor, "rows seq"], positions: Int[Tensor, "rows seq"]) -> Int[Tensor, "rows seq"]:
        """The number of each wanted position's block, from 0; elsewhere meaningless."""
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
                f"max_steps is {int(max_steps.min())}. Raise max_steps or the block length."
            )
        # One step for every block; the rest where blanks would share a step; what is left then, by the blanks.
        crowd = counts - filled.long()
        useful = torch.minimum(spare, crowd.sum(-1))
        steps = filled.long() + _share_out(useful, crowd) + _share_out(spare - useful, counts)
        plans = [quotas(budget.plan(part, steps[:, i], noise)) for i, part in enumerate(parts)]
        return without_idle_steps(torch.cat(plans, dim=1))


def _share_out(amount: Int[Tensor, " batch"], weights: Int[Tensor, "batch blocks"]) -> Int[Tensor, "batch blocks"]:
    """Whole shares in proportion to the weights that sum to ``amount`` (to 0 where all weights are)."""
    return quotas(amount[:, None] * weights.cumsum(1) // weights.sum(-1, keepdim=True).clamp(min=1))
