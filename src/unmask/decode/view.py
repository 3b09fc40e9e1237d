"""What the rules see of a step: the unfinished rows, and nothing of the others.

Shapes: ``b`` unfinished rows, ``L`` sequence; candidate tensors ``[N, ...]`` hold one entry per True of a mask ``[b, L]``, in
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
        number: the step, from 0; every unfinished row has taken part in this many.
        ids: int64 ``[b, L]``, the rows as they stand.
        canvas: the same rows as they were given.
        candidates: bool ``[b, L]``, the blanks that may be revealed now.
        quota: int64 ``[b]``, how many of them the budget wants; at least 1.
        noise: keyed by (seed, row id, step), counted from each row's first real token.
        rows: int64 ``[b]``, the index of each row in the caller's batch.
    """

    number: int
    ids: Int[Tensor, "rows seq"]
    canvas: Canvas
    candidates: Bool[Tensor, "rows seq"]
    quota: Int[Tensor, " rows"]
    noise: Noise
    rows: Int[Tensor, " rows"]


def spread(
    values: Float[Tensor, " scored"], where: Bool[Tensor, "rows seq"], elsewhere: float
) -> Float[Tensor, "rows seq"]:
    """Lay ``[N]`` values out over the True positions of ``where``; the rest get ``elsewhere``."""
    laid = torch.full(where.shape, elsewhere, dtype=values.dtype, device=values.device)
    laid[where] = values
    return laid
