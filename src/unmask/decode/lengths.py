"""``fill_any_length``: fill a blank of unknown length. Every length is decoded in one batch, and the likeliest is kept.

    score(k) = log p(tokens placed) / k ** power

``log p`` sums the log-probability of each token when it was placed. If rules place one token per step, it is the joint
log-probability of the filling along its order. The sum falls with every token and so prefers short fillings; ``power=1``
compares geometric means.

Shapes: ``K`` lengths; the canvas ``[K, L]`` has the longest row's ``L``, padded on the right.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.contracts import MLMModel, MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.forward_request import ForwardRequest
from unmask.decode.loop import decode_steps, drive
from unmask.decode.observers.base import Decoded
from unmask.decode.rules import Rules


class AnyLength(NamedTuple):
    """The best filling among several lengths.

    Attributes:
        ids: int64 ``[L]``, the filled row.
        length: tokens of the filling.
        scores: float64 ``[K]``, one per length.
        decoded: all rows and their cost.

    Examples:
        >>> import torch
        >>> special = SpecialIds(mask=0, vocab_size=20)
        >>> def model(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 20)
        >>> best = fill_any_length(model, [5], [6], [1, 2], make_rules(2), special=special, seed=0)
        >>> isinstance(best, AnyLength), len(best.ids) == 2 + best.length
        (True, True)
    """

    ids: Int[Tensor, " seq"]
    length: int
    scores: Float[Tensor, " lengths"]
    decoded: Decoded


def fill_any_length(
    model: MLMModel,
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
    """Fill the blank between two texts at the best of several lengths.

    Args:
        model: an ``MLMModel`` on ``device``.
        before, after: ids around the blank; either may be empty. Mask ids among them are filled too, one token each.
        lengths: candidate lengths, each at least 1, such as ``range(1, 9)``.
        rules: how to decode.

    Other Parameters:
        special: special ids, which are never placed.
        seed: of all draws; None takes one from torch's global generator.
        power: exponent of the length in the score: 0 is the joint log-probability, 1 its mean.
        device: the model's device.

    Returns:
        ``AnyLength(ids, length, scores, decoded)``: ``ids`` int64 ``[L]``, ``scores`` float64 ``[K]`` in nats.

    Raises:
        ValueError: no lengths, or one below 1.

    Examples:
        >>> import torch
        >>> from unmask import RotaryTransformerMLMModel, fill_any_length, make_rules
        >>> from unmask.contracts import SpecialIds
        >>> special = SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> best = fill_any_length(model, [5, 6], [7], range(1, 4), make_rules(3), special=special, seed=0)
        >>> len(best.ids) == 3 + best.length, best.scores.shape
        (True, torch.Size([3]))
    """
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths={list(lengths)}: give at least one length, each 1 or more, such as range(1, 9).")
    rows = [[*before, *[special.mask] * n, *after] for n in lengths]
    scores, decoded = fill_and_score(model, rows, rules, special=special, seed=seed, power=power, device=device)
    best = int(scores.argmax())
    return AnyLength(decoded.ids[best, : len(rows[best])], lengths[best], scores, decoded)


def fill_and_score(
    model: MLMModel,
    rows: Sequence[Sequence[int]],
    rules: Rules,
    *,
    special: SpecialIds,
    seed: int | None = None,
    power: float = 1.0,
    row_ids: Sequence[int] | None = None,
    observers: Sequence[Any] = (),
    device: torch.device | str = "cpu",
) -> tuple[Float[Tensor, " rows"], Decoded]:
    """Fill rows of mixed lengths in one canvas, padded on the right, and score each by its tokens.

    Args:
        model: an ``MLMModel`` on ``device``.
        rows: ids of each row, with masks.
        rules: how to decode.

    Other Parameters:
        special, seed, power, device: as in :func:`fill_any_length`.
        row_ids: keys of the rows' noise; None = their index.
        observers: called after every step.

    Returns:
        float64 ``[B]``, the sum of the log-probabilities of the placed tokens over ``tokens ** power``; and the decode.
    """
    steps = score_steps(
        rows, rules, special=special, seed=seed, power=power, row_ids=row_ids, observers=observers, device=device
    )
    return drive(model, steps)


def score_steps(
    rows: Sequence[Sequence[int]],
    rules: Rules,
    *,
    special: SpecialIds,
    seed: int | None = None,
    power: float = 1.0,
    row_ids: Sequence[int] | None = None,
    observers: Sequence[Any] = (),
    device: torch.device | str = "cpu",
) -> Generator[ForwardRequest, Tensor, tuple[Float[Tensor, " rows"], Decoded]]:
    """Do what :func:`fill_and_score` does, one forward request after the other; arguments as there."""
    width = max(map(len, rows))
    filler = special.mask if special.pad is None else special.pad
    ids = torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], device=device)
    real = torch.arange(width, device=device) < torch.tensor([[len(row)] for row in rows], device=device)
    keys = None if row_ids is None else torch.tensor(list(row_ids), device=device)
    canvas = Canvas.infill(ids, special, real, row_ids=keys)
    placed = _Placed(torch.zeros(ids.shape, dtype=torch.float64, device=device))
    decoded = yield from decode_steps(canvas, rules, special, seed, [placed, *observers])
    tokens = canvas.blanks(special.mask).sum(-1).double()
    return placed.log_probs.sum(-1) / tokens**power, decoded


class _Placed:
    """An observer that records the log-probability of each placed token; 0 at given positions."""

    def __init__(self, log_probs: Float[Tensor, "batch seq"]) -> None:
        self.log_probs = log_probs

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record the tokens of one step."""
        committed, rows = step_results["committed"], step_results["rows"]
        odds = step_results["probability"].double().masked_fill(~committed, 1.0)
        self.log_probs[rows] = torch.where(committed, odds.log(), self.log_probs[rows])
