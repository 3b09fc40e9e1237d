"""Budgets: how many positions of a row are unmasked after each step.

A plan is cumulative: after step ``i``, ``plan[b, i]`` positions of row ``b`` are unmasked.
Its differences are the quotas. They sum to the row's masked positions, are never zero while some are left (except in ``ScheduleWithRemasking``),
and number at most ``max_steps``. So every forward pass unmasks a token, and unequal rows have quotas of their own.

    UniformBudget          quotas differ by at most one
    ScheduleBudget         the fraction alpha(t) of a schedule
    AncestralBudget        each position samples its own time from the schedule, as in the reverse diffusion
    OnePerStep             one token per step: exact, the limit of ancestral sampling (first-hitting, 2409.02908)
    MinOnePerStep          the minimum under a threshold: one per step, the rest in the last step
    ScheduleWithRemasking  the fraction of a schedule at exactly max_steps times, quotas of zero included

Shapes: ``blanks [B, L]`` bool (the masked positions), ``max_steps [B]`` int64, plans ``[B, S]`` int64 with ``S <= max_steps.max()``.
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
    """How many masked positions are unmasked by the end of each step.

    Examples:
        >>> import torch
        >>> class HalfFirst:
        ...     def plan(self, blanks, max_steps, noise):
        ...         count = blanks.sum(-1, keepdim=True)
        ...         return torch.cat([(count + 1) // 2, count], dim=1)
        >>> rules = Rules(max_steps=2, budget=HalfFirst())
        >>> rules.budget.plan(torch.ones(1, 5, dtype=torch.bool), torch.tensor([2]), None).tolist()
        [[3, 5]]
    """

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        """Return the cumulative counts ``[B, S]``.

        Args:
            blanks: bool ``[B, L]``, the masked positions.
            max_steps: int64 ``[B]``, steps of each row, at most.
            noise: keyed by row.
        """
        ...


def quotas(plan: Plan) -> Plan:
    """Return the number of positions that each step of a plan unmasks."""
    return plan.diff(dim=1, prepend=torch.zeros_like(plan[:, :1]))


def without_idle_steps(quotas: Int[Tensor, "batch all_steps"]) -> Plan:
    """Return the plan of these quotas without the zeros, left-aligned per row."""
    order = (quotas == 0).long().argsort(dim=1, stable=True)
    steps = int((quotas > 0).sum(-1).max()) if quotas.numel() else 0
    return quotas.gather(1, order)[:, :steps].cumsum(1)


def _steps(blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return masked positions ``[B, 1]`` and steps ``[B, 1]`` of each row, and its finished steps ``[B, S]`` after each step."""
    count = blanks.sum(-1, keepdim=True)
    steps = torch.minimum(count, max_steps[:, None])
    longest = int(steps.max()) if len(steps) else 0
    done = torch.arange(1, longest + 1, device=blanks.device)[None, :]
    return count, steps, torch.minimum(done, steps)


@dataclass(frozen=True)
class UniformBudget:
    """Quotas of a row differ by at most one; with more steps than masked positions, one position per step."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        return count * done // steps.clamp(min=1)


@dataclass(frozen=True)
class ScheduleBudget:
    """After step ``i`` of ``S`` a fraction ``alpha(1 - i/S)`` of the masked positions is unmasked, and at least ``i`` of them.

    A step for which the schedule plans less than one position unmasks one; later steps unmask fewer in return.

    Attributes:
        schedule: the schedule whose survival curve ``alpha`` is followed.
    """

    schedule: Schedule

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        to_fill = (_alpha(self.schedule, done, steps) * count).round().long()
        # The count beyond one per step must not fall, and must leave one masked position for every later step.
        beyond = (to_fill - done).clamp(min=0).cummax(dim=1).values
        return torch.minimum(beyond, count - steps) + done


@dataclass(frozen=True)
class AncestralBudget:
    """Each position is unmasked at a step of its own, sampled from the schedule: step ``i`` of ``N = max_steps`` with probability
    ``alpha(t_i) - alpha(t_(i-1))``.

    With the random order this is ancestral sampling of the reverse diffusion (MDLM, 2406.07524): a position masked at
    ``t`` is unmasked by ``s`` with probability ``(alpha_s - alpha_t) / (1 - alpha_t)``. Steps without an unmasked position are
    skipped, since the network's output would not change. The linear schedule needs ``N (1 - (1 - 1/N)^M)`` forward passes on average.

    Attributes:
        schedule: the schedule whose survival curve ``alpha`` is followed; linear by default.
    """

    schedule: Schedule = linear

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        steps = int(max_steps.max()) if len(max_steps) else 0
        done = torch.arange(1, steps + 1, device=blanks.device)[None, :]
        alpha = _alpha(self.schedule, torch.minimum(done, max_steps[:, None]), max_steps[:, None])
        step = torch.searchsorted(alpha, noise.per_token(Stream.TIME, blanks.shape[1])).clamp(max=steps - 1)
        counts = torch.zeros(len(blanks), steps, dtype=torch.int64, device=blanks.device)
        return without_idle_steps(counts.scatter_add(1, step, blanks.long()))


@dataclass(frozen=True)
class OnePerStep:
    """One position per step. If positions are chosen before tokens are sampled, samples follow the model's any-order distribution exactly.

    With the random order this is first-hitting sampling (Zheng et al. 2024, 2409.02908). Its hitting times matter only to
    a time-conditioned network.
    """

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        if bool((count > steps).any()):
            raise ValueError(
                f"One token per step needs as many steps as masked positions: a row has {int(count.max())} and max_steps is "
                f"{int(max_steps.min())}. Raise max_steps (--steps), or choose order='random' (--order random)."
            )
        return done


@dataclass(frozen=True)
class MinOnePerStep:
    """One position per step and the remaining ones in the last step: the minimum under a threshold."""

    def plan(self, blanks: Bool[Tensor, "batch seq"], max_steps: Int[Tensor, " batch"], noise: Noise) -> Plan:
        count, steps, done = _steps(blanks, max_steps)
        return torch.where(done == steps, count, done)


@dataclass(frozen=True)
class ScheduleWithRemasking:
    """A fraction ``alpha`` of the masked positions is unmasked after each of exactly ``max_steps`` steps. Remasking needs steps whose
    count stays the same.

    Attributes:
        schedule: the schedule whose survival curve ``alpha`` is followed; linear by default.
        hold_at: unmasked fraction at which the plan is constant for a while (ReMDM-loop), or None.
        hold_for: fraction of the steps with a constant plan.

    Raises:
        ValueError: a fraction out of range.
    """

    schedule: Schedule = linear
    hold_at: float | None = None
    hold_for: float = 0.5

    def __post_init__(self) -> None:
        if self.hold_at is not None and not 0.0 < self.hold_at < 1.0:
            raise ValueError(f"hold_at={self.hold_at} is a fraction of unmasked tokens: give a number between 0 and 1.")
        if not 0.0 <= self.hold_for < 1.0:
            raise ValueError(f"hold_for={self.hold_for} is a fraction of the steps: give a number in [0, 1).")

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
    """Return the unmasked fraction after ``done`` of ``steps`` steps; exactly 1 after the last, without the schedule's rounding."""
    fraction = schedule.alpha(1.0 - done.double() / steps.clamp(min=1))
    return torch.where(done >= steps, 1.0, fraction).clamp(0.0, 1.0)
