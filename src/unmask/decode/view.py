"""``StepView``: the state of one step over the unfinished rows, as scores, commit rules and logits processors receive it.

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
    """One step of the loop, before any token is placed.

    Attributes:
        number: the step, from 0.
        rows: int64 ``[b]``, the index of each row in the caller's batch.
        ids: int64 ``[b, L]``, the current rows.
        canvas: the same rows as given by the caller.
        to_fill: bool ``[b, L]``, the positions that were masked at the start.
        blanks: bool ``[b, L]``, the positions that are masked now.
        candidates: bool ``[b, L]``, the masked positions that may be unmasked in this step.
        target_count: int64 ``[b]``, how many of ``to_fill`` are unmasked after this step, by the budget.
        commit_prob: float64 ``[b, L]``, the probability of each unmasked token when it was placed; 0 elsewhere. None if no part of
            the rules reads probabilities (``Rules.reads``).
        noise: keyed by (seed, row id, step), counted from each row's first real token.
        fraction_left: ``[b]``, the fraction of the row's steps after this one; None if unplanned.

    Examples:
        >>> import torch
        >>> special, seen = SpecialIds(mask=0, vocab_size=20), []
        >>> def left_to_right(view):
        ...     seen.append((view.number, view.blanks.sum().item(), view.revealed.sum().item()))
        ...     return -torch.arange(view.ids.shape[1]).expand(view.ids.shape)
        >>> canvas, rules = Canvas.infill(torch.tensor([[5, 0, 0, 6]]), special), make_rules(2, order=left_to_right)
        >>> decoded = fill_canvas(lambda x_t, **_: torch.zeros(*x_t.shape, 20), canvas, rules, special=special, seed=0)
        >>> seen
        [(0, 2, 0), (1, 1, 1)]
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
        """The positions unmasked so far, bool ``[b, L]``."""
        return self.to_fill & ~self.blanks

    def take(self, which: Int[Tensor, " some"]) -> StepView:
        """Return the view of the rows with these indices, in their order."""
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
    """Scatter ``[N]`` values to the True positions of ``where``; the other positions are ``elsewhere``."""
    scattered = torch.full(where.shape, elsewhere, dtype=values.dtype, device=values.device)
    scattered[where] = values
    return scattered
