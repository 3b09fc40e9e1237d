"""Budgets: how many blanks of a row have been revealed after each step.

A plan is cumulative, one row of integers per row of the canvas: ``plan[b, i]`` blanks are revealed when step ``i`` is over.
Its differences are the quotas, which sum to the row's blanks, are never zero while blanks are left (``SteadyBudget``, made for
remasking, excepted), and number at most ``max_steps``. So a row never pays for an evaluation that reveals nothing, and
unequal rows keep their own quotas.

    EvenBudget       quotas differ by at most one
    ScheduleBudget   the share alpha(t) of a schedule
    AncestralBudget  each blank draws its own time from the schedule, as the reverse diffusion does
    OneByOne         one a step: exact, the limit of ancestral sampling (first-hitting, 2409.02908)
    LeastBudget      the floor under a threshold: one a step, all that is left in the last
    SteadyBudget     the share of a schedule at exactly max_steps times, standing still where it asks for none

Shapes: ``blanks [B, L]`` bool, ``max_steps [B]`` int64, plans ``[B, S]`` int64 with ``S <= max_steps.max()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.ops.schedule import Schedule, linear
from unmask.randomness import Noise, Stream

Plan = Int[Tensor, "batch steps"]


@runtime_checkable
class Budget(Protocol):
    """A rule that plans how many blanks are revealed by the end of each step."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan: ...


def quotas(plan: Plan) -> Plan:
    """How many blanks each step of a plan reveals."""
    return plan.diff(dim=1, prepend=torch.zeros_like(plan[:, :1]))


def without_idle_steps(quotas: Int[Tensor, "batch all_steps"]) -> Plan:
    """The plan of these quotas with the zeros taken out, every row closing up to the left."""
    order = (quotas == 0).long().argsort(dim=1, stable=True)
    longest = int((quotas > 0).sum(-1).max()) if quotas.numel() else 0
    return quotas.gather(1, order)[:, :longest].cumsum(1)


def _steps(blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor, Tensor]:
    """Blanks ``[B, 1]``, steps ``[B, 1]`` of each row, and the number ``[B, S]`` of its steps done after each step."""
    count = blanks.sum(-1, keepdim=True)
    steps = torch.minimum(count, max_steps[:, None])
    longest = int(steps.max()) if len(steps) else 0
    done = torch.arange(1, longest + 1, device=blanks.device)[None, :]
    return count, steps, torch.minimum(done, steps)


@dataclass(frozen=True)
class UniformBudget:
    """Quotas of a row differ by at most one; larger ``max_steps`` than blanks means one blank a step."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
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

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        to_fill = (_alpha(self.schedule, done, steps) * count).round().long()
        # What is revealed beyond one per step may only grow, and must leave one blank for every later step.
        beyond = (to_fill - done).clamp(min=0).cummax(dim=1).values
        return torch.minimum(beyond, count - steps) + done


@dataclass(frozen=True)
class AncestralBudget:
    """Each blank is revealed at a step of its own, drawn from the schedule: step ``i`` of ``N = max_steps`` with probability
    ``alpha(t_i) - alpha(t_(i-1))``.

    With the random order this is ancestral sampling of the reverse diffusion (MDLM, 2406.07524): a blank still hidden at
    ``t`` is revealed by ``s`` with probability ``(alpha_s - alpha_t) / (1 - alpha_t)``. Steps that reveal nothing are left
    out, since the network would say the same again: ``N (1 - (1 - 1/N)^M)`` evaluations are expected of the linear schedule.

    Attributes:
        schedule: its survival curve ``alpha``; the linear one if not given.
    """

    schedule: Schedule = linear

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        longest = int(max_steps.max()) if len(max_steps) else 0
        done = torch.arange(1, longest + 1, device=blanks.device)[None, :]
        alpha = _alpha(self.schedule, torch.minimum(done, max_steps[:, None]), max_steps[:, None])
        step = torch.searchsorted(alpha, noise.per_token(Stream.TIME, blanks.shape[1])).clamp(max=longest - 1)
        counts = torch.zeros(len(blanks), longest, dtype=torch.int64, device=blanks.device)
        return without_idle_steps(counts.scatter_add(1, step, blanks.long()))


@dataclass(frozen=True)
class OnePerStep:
    """One blank a step. With an order chosen before the draw, samples follow the model's any-order distribution exactly.

    First-hitting sampling (Zheng et al. 2024, 2409.02908) is this under the random order: its hitting times matter only to
    a network that is told the time, and ours is not.

    Raises:
        ValueError: a row has more blanks than ``max_steps``.
    """

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        if bool((count > steps).any()):
            raise ValueError(
                f"One token a step needs as many steps as blanks: a row has {int(count.max())} and max_steps is "
                f"{int(max_steps.min())}. Raise max_steps, or use another budget (even, a schedule)."
            )
        return done


@dataclass(frozen=True)
class MinOnePerStep:
    """One blank a step and, if ``max_steps`` are too few, all that is left in the last: the floor under a threshold."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        return torch.where(done == steps, count, done)


@dataclass(frozen=True)
class ScheduleWithRemasking:
    """A share ``alpha`` of the blanks after each of exactly ``max_steps`` steps: for remasking, which has work to do in steps
    that reveal nothing in sum.

    Attributes:
        schedule: its survival curve ``alpha``; the linear one if not given.
        hold_at: a share of revealed tokens at which the plan stands still (ReMDM-loop), or None.
        hold_for: share of the steps spent standing there.
    """

    schedule: Schedule = linear
    hold_at: float | None = None
    hold_for: float = 0.5

    def __post_init__(self) -> None:
        if self.hold_at is not None and not 0.0 < self.hold_at < 1.0:
            raise ValueError(f"hold_at={self.hold_at} is a share of revealed tokens and must lie between 0 and 1.")
        if not 0.0 <= self.hold_for < 1.0:
            raise ValueError(f"hold_for={self.hold_for} is a share of the steps and must lie in [0, 1).")

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count = blanks.sum(-1, keepdim=True)
        steps = max_steps[:, None]
        done = torch.minimum(torch.arange(1, int(max_steps.max()) + 1, device=blanks.device)[None, :], steps).double()
        if self.hold_at is not None:
            held = self.hold_for * steps
            moving = steps - held
            start = (1.0 - self.schedule.inverse(torch.tensor(1.0 - self.hold_at, dtype=torch.float64))) * moving
            done = torch.where(done > start, torch.maximum(start, done - held), done) / moving * steps
        return (_alpha(self.schedule, done, steps) * count).round().long()


def _alpha(schedule: Schedule, done: Tensor, steps: Tensor) -> Float[Tensor, "batch steps"]:
    """The share revealed after ``done`` of ``steps`` steps; exactly 1 after the last, whatever the schedule rounds to."""
    share = schedule.alpha(1.0 - done.double() / steps.clamp(min=1))
    return torch.where(done >= steps, 1.0, share).clamp(0.0, 1.0)
