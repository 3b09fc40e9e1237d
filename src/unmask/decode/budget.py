"""Budgets: how many blanks of a row have been revealed after each step.

A plan is cumulative, one row of integers per row of the canvas: ``plan[b, i]`` blanks are revealed when step ``i`` is over.
Its differences are the quotas. Every plan obeys

    quotas sum to the row's blanks; while blanks are left, no quota is zero; there are at most max_steps of them

so a row never pays for an evaluation that reveals nothing, and unequal rows keep their own quotas.

Shapes: ``blanks [B, L]`` bool, plans ``[B, S]`` int64 with ``S <= max_steps``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.ops.schedule import Schedule
from unmask.randomness import Noise

Plan = Int[Tensor, "batch steps"]


@runtime_checkable
class Budget(Protocol):
    """A rule that plans how many blanks are revealed by the end of each step."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: int, noise: Noise) -> Plan: ...


def quotas(plan: Plan) -> Plan:
    """How many blanks each step of a plan reveals."""
    return plan.diff(dim=1, prepend=torch.zeros_like(plan[:, :1]))


def _steps(blanks: Bool[Tensor, "batch seq"], max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blanks ``[B, 1]``, steps ``[B, 1]`` of each row, and the number ``[1, S]`` of steps done after each step."""
    count = blanks.sum(-1, keepdim=True)
    steps = count.clamp(max=max_steps)
    longest = int(steps.max()) if len(steps) else 0
    done = torch.arange(1, longest + 1, device=blanks.device)[None, :]
    return count, steps, torch.minimum(done, steps)


@dataclass(frozen=True)
class EvenBudget:
    """Quotas of a row differ by at most one; larger ``max_steps`` than blanks means one blank a step."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: int, noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        return count * done // steps.clamp(min=1)


@dataclass(frozen=True)
class ScheduleBudget:
    """After step ``i`` of ``S`` a share ``alpha(1 - i/S)`` of the blanks is revealed, and at least ``i`` of them.

    A schedule that asks for less than one blank in a step gets one; what that borrows is returned by the steps after it.

    Attributes:
        schedule: its survival curve ``alpha``.
    """

    schedule: Schedule

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: int, noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        share = self.schedule.alpha(1.0 - done.double() / steps.clamp(min=1))
        wanted = (share * count).round().long()
        # What is revealed beyond one per step may only grow, and must leave one blank for every later step.
        beyond = (wanted - done).clamp(min=0).cummax(dim=1).values
        return torch.minimum(beyond, count - steps) + done


@dataclass(frozen=True)
class LeastBudget:
    """One blank a step and, if ``max_steps`` are too few, all that is left in the last: the floor under a threshold."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: int, noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        return torch.where(done == steps, count, done)
