"""The state of a batch during a decode, and its view in one step.

Steps on an accelerator are short, and each operation costs a launch. What does not change is therefore computed once, row
keys are hashed on the host, and nothing is copied while no row is finished.

Shapes: ``B`` rows of ``L`` positions, of which ``b`` are unfinished.
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
class BatchState:
    """The state of a decode; ``ids`` and ``commit_prob`` change in every step, the rest is constant.

    Attributes:
        canvas: given tokens and positions to fill.
        mask: id of the mask.
        seed: of all draws.
        to_fill: the positions to fill.
        plan: the number of filled positions of each row after each step.
        ids: the current rows.
        commit_prob: the probability of each token when it was placed; None if no rule reads probabilities.
        fractions: the fraction of each row's steps after each step.
        counters: the number of each position within its row, which keys its noise.
        row_ids: keys of the rows' noise, on the host.
    """

    canvas: Canvas
    mask: int
    seed: int
    to_fill: Bool[Tensor, "batch seq"]
    plan: Plan
    ids: Int[Tensor, "batch seq"]
    commit_prob: Float[Tensor, "batch seq"] | None
    fractions: Float[Tensor, "batch steps"]
    counters: Int[Tensor, "batch seq"]
    row_ids: Int[Tensor, " batch"]

    @classmethod
    def start(cls, canvas: Canvas, rules: Rules, special: SpecialIds, seed: int) -> BatchState:
        """Return the state before the first step, with the plan of all steps."""
        to_fill = canvas.blanks(special.mask)
        ids = canvas.ids.clone()
        with torch.inference_mode():  # as rows of it are later: compiled programs depend on the kind of a tensor
            canvas = canvas.rows(torch.arange(len(ids), device=ids.device))
        limit = torch.full((len(to_fill),), rules.selector.steps(rules.max_steps), device=to_fill.device)
        counters, row_ids = positions_from_mask(canvas.attention_mask), canvas.row_ids.cpu()
        noise = Noise(row_keys(seed, 0, row_ids).to(to_fill.device), counters)
        plan = rules.block_schedule.plan(rules.budget, to_fill, canvas.positions, limit, noise)
        commit_prob = (
            torch.zeros(to_fill.shape, dtype=torch.float64, device=to_fill.device)
            if rules.reads_probabilities
            else None
        )
        fractions = _fractions_left(plan, to_fill)
        return cls(canvas, special.mask, seed, to_fill, plan, ids, commit_prob, fractions, counters, row_ids)

    def blanks(self, rows: Int[Tensor, " rows"]) -> Bool[Tensor, "rows seq"]:
        """Return the masked positions of some rows."""
        return self._of(self.to_fill, rows) & (self._of(self.ids, rows) == self.mask)

    def _of(self, values: Tensor, rows: Int[Tensor, " rows"]) -> Tensor:
        """Return the values of some rows, without a copy while no row is finished."""
        return values if len(rows) == len(values) else values[rows]

    def view(self, step: int, rows: Int[Tensor, " rows"], block_schedule: BlockSchedule) -> StepView:
        """Return the view of some rows in one step."""
        every = len(rows) == len(self.ids)
        canvas, blanks, to_fill = (
            self.canvas if every else self.canvas.rows(rows),
            self.blanks(rows),
            self._of(self.to_fill, rows),
        )
        keys = row_keys(self.seed, step, self.row_ids).to(rows.device)  # hashed on the host, in one operation
        return StepView(
            number=step,
            rows=rows,
            ids=self.ids.clone() if every else self.ids[rows],
            canvas=canvas,
            to_fill=to_fill,
            blanks=blanks,
            candidates=block_schedule.open(to_fill, blanks, canvas.positions),
            target_count=self._of(self.plan[:, step], rows),
            commit_prob=None if self.commit_prob is None else self.commit_prob[rows],
            noise=Noise(self._of(keys, rows), self._of(self.counters, rows)),
            fraction_left=self._of(self.fractions[:, step], rows),
        )


def _fractions_left(plan: Plan, to_fill: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch steps"]:
    """Return the fraction of each row's steps after each step; a row's steps end when its plan is complete."""
    steps = (plan < to_fill.sum(-1, keepdim=True)).sum(-1, keepdim=True) + 1
    return (steps - 1 - torch.arange(plan.shape[1], device=plan.device)).clamp(min=0) / steps.double()
