"""Infilling when nobody says how long the blank is: every length is decoded, in one batch, and the likeliest is kept.

    score(k) = log p(tokens placed) / k ** power

``log p`` sums what each token was given when it was placed, so under rules that place one token a step it is the joint
log-probability of the filling along its order. A sum falls with every token and so prefers short fillings; ``power=1``
compares geometric means.

Shapes: ``K`` lengths; the canvas ``[K, L]`` has the longest row's ``L``, padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.observers.base import Decoded
from unmask.decode.rules import Rules


class AnyLength(NamedTuple):
    """A blank filled at the best of several lengths.

    Attributes:
        ids: int64 ``[L]``, the row with the blank filled.
        length: tokens the blank took.
        scores: float64 ``[K]``, one per length that was tried.
        decoded: all rows and what they cost.
    """

    ids: Int[Tensor, " seq"]
    length: int
    scores: Float[Tensor, " lengths"]
    decoded: Decoded


def fill_any_length(
    model: Any,
    before: Sequence[int],
    after: Sequence[int],
    lengths: Sequence[int],
    rules: Rules,
    *,
    special: SpecialIds,
    seed: int | None = None,
    power: float = 1.0,
    device: torch.device | str = "cpu",
) -> AnyLength:
    """Fill the blank between two texts, of whichever length fits best.

    Args:
        model: an ``MLMModel`` on ``device``.
        before, after: ids around the blank; either may be empty. Masks among them are blanks of one token.
        lengths: to try, each at least 1, such as ``range(1, 9)``.
        rules: how to decode.
        special: ids that are never placed.
        seed: of all draws.
        power: what the length counts for in the score; 0 is the joint log-probability, 1 its mean.
        device: where the model is.

    Raises:
        ValueError: no lengths, or one below 1.
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(
            f"The lengths to try are {list(lengths)}: give at least one, each 1 or more, such as range(1, 9)."
        )
    width = len(before) + max(lengths) + len(after)
    filler = special.mask if special.pad is None else special.pad
    rows = [[*before, *[special.mask] * n, *after] for n in lengths]
    ids = torch.tensor([row + [filler] * (width - len(row)) for row in rows], device=device)
    real = torch.arange(width, device=device) < torch.tensor([[len(row)] for row in rows], device=device)
    canvas = Canvas.infill(ids, special, real)
    placed = _Placed(torch.zeros(ids.shape, dtype=torch.float64, device=device))
    decoded = fill_canvas(model, canvas, rules, special=special, seed=seed, observers=[placed])
    tokens = canvas.blanks(special.mask).sum(-1).double()
    scores = placed.log_probs.sum(-1) / tokens**power
    best = int(scores.argmax())
    return AnyLength(decoded.ids[best, : len(rows[best])], lengths[best], scores, decoded)


class _Placed:
    """An observer: the log-probability of the token that stands at each position, 0 where it was given."""

    def __init__(self, log_probs: Float[Tensor, "batch seq"]) -> None:
        self.log_probs = log_probs

    def update_history(self, step_results: MLMStepResults) -> None:
        committed, rows = step_results["committed"], step_results["rows"]
        odds = step_results["probability"].double().masked_fill(~committed, 1.0)
        self.log_probs[rows] = torch.where(committed, odds.log(), self.log_probs[rows])
