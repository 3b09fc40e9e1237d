"""``DecodeState``: the rows of a canvas between two steps of the loop.

Shapes: ``B`` rows of ``L`` positions; ``S`` steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.budget import Plan
from unmask.decode.canvas import Canvas
from unmask.decode.rules import Rules
from unmask.decode.view import StepView
from unmask.ops.segments import positions_from_mask
from unmask.randomness import Noise, row_keys


@dataclass
class DecodeState:
    """The state of a canvas; ``ids`` and ``commit_prob`` change in every step, the rest is constant."""

    canvas: Canvas
    mask: int
    seed: int
    to_fill: Bool[Tensor, "batch seq"]
    plan: Plan
    ids: Int[Tensor, "batch seq"]
    commit_prob: Float[Tensor, "batch seq"] | None

    @classmethod
    def start(cls, canvas: Canvas, rules: Rules, special: SpecialIds, seed: int) -> DecodeState:
        """Return the state before the first step."""
        to_fill = canvas.blanks(special.mask)
        limit = torch.full((len(to_fill),), rules.selector.steps(rules.max_steps), device=to_fill.device)
        plan = rules.block_schedule.plan(rules.budget, to_fill, canvas.positions, limit, _noise(canvas, seed, 0))
        commit_prob = (
            torch.zeros(to_fill.shape, dtype=torch.float64, device=to_fill.device)
            if rules.reads_probabilities
            else None
        )
        return cls(canvas, special.mask, seed, to_fill, plan, canvas.ids.clone(), commit_prob)

    def blanks(self, rows: Int[Tensor, " rows"]) -> Bool[Tensor, "rows seq"]:
        """Return the positions of some rows that are masked now."""
        return self.to_fill[rows] & (self.ids[rows] == self.mask)

    def view(self, step: int, rows: Int[Tensor, " rows"], block_schedule: BlockSchedule) -> StepView:
        """Return one step of some rows."""
        canvas, blanks = self.canvas.rows(rows), self.blanks(rows)
        return StepView(
            number=step,
            rows=rows,
            ids=self.ids[rows],
            canvas=canvas,
            to_fill=self.to_fill[rows],
            blanks=blanks,
            candidates=block_schedule.open(self.to_fill[rows], blanks, canvas.positions),
            target_count=self.plan[rows, step],
            commit_prob=None if self.commit_prob is None else self.commit_prob[rows],
            noise=_noise(canvas, self.seed, step),
            fraction_left=self._fraction_left(rows, step),
        )

    def _fraction_left(self, rows: Int[Tensor, " rows"], step: int) -> Float[Tensor, " rows"]:
        """Return the fraction of each row's steps after this one; its steps end when its plan is complete."""
        steps = (self.plan[rows] < self.to_fill[rows].sum(-1, keepdim=True)).sum(-1) + 1
        return (steps - 1 - step).clamp(min=0) / steps.double()


def _noise(canvas: Canvas, seed: int, step: int) -> Noise:
    return Noise(row_keys(seed, step, canvas.row_ids), positions_from_mask(canvas.attention_mask))
