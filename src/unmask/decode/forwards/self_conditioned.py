"""Self-conditioning: each evaluation is handed what the one before made of the row.

The network's hidden states of an evaluation come back in the next one, added to the embeddings of its tokens (Chen et al. 2022,
2208.04202). The same way takes in whatever else is added to embeddings, such as the positions of a grid.

Shapes: hidden states ``[b, L, D]``; added embeddings ``[b, L, E]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView

Added = Callable[[Float[Tensor, "rows seq width"] | None, tuple[int, int]], Tensor | None]


@dataclass(frozen=True)
class ConditionedForward:
    """The model, with something added to the embeddings of its tokens.

    Attributes:
        added: hidden states of the row's evaluation before this one, or None in the first, and the shape ``(b, L)`` -> what is
            added, or None for nothing.
        remembers: whether hidden states are kept for the next evaluation.
    """

    added: Added
    remembers: bool = True
    passes: int = field(default=1, init=False)

    def start(self, rows: int, block_schedule: BlockSchedule) -> _Conditioned:
        return _Conditioned(self.added, self.remembers, rows)


@dataclass
class _Conditioned:
    """At work: ``memory [B, L, D]`` holds the last hidden states of every row of the batch."""

    added: Added
    remembers: bool
    rows: int
    memory: Tensor | None = None

    def positions(self, view: StepView) -> int:
        return int(view.canvas.attention_mask.sum())

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
        before = None if self.memory is None else self.memory[view.rows]
        added = self.added(before, (view.ids.shape[0], view.ids.shape[1]))
        hidden = model.hidden_states(view.ids, view.canvas.attention_mask, view.canvas.positions, sum_embeds=added)
        if self.remembers:
            if self.memory is None:  # every row takes part in the first evaluation
                self.memory = hidden.new_zeros(self.rows, *hidden.shape[1:])
            self.memory[view.rows] = hidden
        return model.logits_at(hidden, where)
