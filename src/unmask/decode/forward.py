"""From ids to logits at the positions somebody reads.

A forward gets the rows that are still unfinished and a mask of positions, and answers their logits ``[N, V]`` in row-major
order. Columns that are padding in every one of those rows are not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.canvas import Canvas
from unmask.nn.projection import logits_where


@runtime_checkable
class Forward(Protocol):
    """``ids [b, L]`` under ``canvas``'s masks and positions -> logits at ``where [b, L]``. One network evaluation."""

    def __call__(
        self, model: Any, ids: Int[Tensor, "rows seq"], canvas: Canvas, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]: ...


@dataclass(frozen=True)
class PlainForward:
    """The model as it is."""

    def __call__(
        self, model: Any, ids: Int[Tensor, "rows seq"], canvas: Canvas, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        span = real_columns(canvas.attention_mask)
        inputs = {
            "input_ids": ids[:, span],
            "attention_mask": canvas.attention_mask[:, span],
            "positions": canvas.positions[:, span],
        }
        return logits_where(model, inputs, where[:, span])


def real_columns(attention_mask: Bool[Tensor, "rows seq"]) -> slice:
    """The columns from the first to the last that is real in any row."""
    columns = attention_mask.any(0).nonzero()[:, 0].tolist()
    return slice(columns[0], columns[-1] + 1) if columns else slice(0, 0)
