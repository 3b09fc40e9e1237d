"""What the rules see of a step: the unfinished rows, and nothing of the others.

Shapes: ``b`` unfinished rows, ``L`` sequence; scored tensors ``[N, ...]`` hold one entry per True of a mask ``[b, L]``, in
row-major order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.canvas import Canvas
from unmask.randomness import Noise


@dataclass(frozen=True)
class StepView:
    """One step of the loop, before anything is revealed.

    Attributes:
        number: the step, from 0.
        rows: int64 ``[b]``, the index of each row in the caller's batch.
        ids: int64 ``[b, L]``, the rows as they stand.
        canvas: the same rows as they were given.
        wanted: bool ``[b, L]``, what was blank at the start.
        blanks: bool ``[b, L]``, what still is (or is again).
        candidates: bool ``[b, L]``, the blanks that may be revealed now.
        target: int64 ``[b]``, how many of the wanted the budget wants revealed when the step is over.
        certainty: float64 ``[b, L]``, the probability each revealed token had when it was placed; 0 elsewhere. None where no part of
            the rules reads it (``Rules.reads_probabilities``).
        noise: keyed by (seed, row id, step), counted from each row's first real token.
        left: ``[b]``, the share of the row's steps that are still to come when this one is over; None where nobody planned.
    """

    number: int
    rows: Int[Tensor, " rows"]
    ids: Int[Tensor, "rows seq"]
    canvas: Canvas
    to_fill: Bool[Tensor, "rows seq"]
    blanks: Bool[Tensor, "rows seq"]
    candidates: Bool[Tensor, "rows seq"]
    target_count: Int[Tensor, " rows"]
    commit_prob: Float[Tensor, "rows seq"] | None
    noise: Noise
    fraction_left: Float[Tensor, " rows"] | None = None

    @property
    def revealed(self) -> Bool[Tensor, "rows seq"]:
        """The tokens placed so far."""
        return self.to_fill & ~self.blanks

    def take(self, which: Int[Tensor, " some"]) -> StepView:
        """The view of the rows with these numbers, in their order."""
        counters = self.noise.counters
        return StepView(
            self.number,
            self.rows[which],
            self.ids[which],
            self.canvas.rows(which),
            self.to_fill[which],
            self.blanks[which],
            self.candidates[which],
            self.target_count[which],
            None if self.commit_prob is None else self.commit_prob[which],
            Noise(self.noise.keys[which], None if counters is None else counters[which]),
            None if self.fraction_left is None else self.fraction_left[which],
        )


def spread(
    values: Float[Tensor, " scored"], where: Bool[Tensor, "rows seq"], elsewhere: float
) -> Float[Tensor, "rows seq"]:
    """Lay ``[N]`` values out over the True positions of ``where``; the rest get ``elsewhere``."""
    laid = torch.full(where.shape, elsewhere, dtype=values.dtype, device=values.device)
    laid[where] = values
    return laid
