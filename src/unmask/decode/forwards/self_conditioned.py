"""Self-conditioning: each forward pass receives the hidden states of the one before (Chen et al. 2022, 2208.04202).

The previous hidden states are added to the token embeddings. Other additions, such as embeddings of grid positions, use the same path.

Shapes: hidden states ``[b, L, D]``; added embeddings ``[b, L, E]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from jaxtyping import Bool, Float
from torch import Tensor

from unmask.contracts import MLMModel
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView

Added = Callable[[Float[Tensor, "rows seq width"] | None, tuple[int, int]], Tensor | None]


class Conditionable(Protocol):
    """A network whose token embeddings accept an addition ``sum_embeds [b, L, E]``."""

    def hidden_states(
        self,
        x_t: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        *,
        sum_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's output ``[b, L, D]``."""
        ...

    def logits_at(self, hidden: Tensor, where: Tensor) -> Tensor:
        """Return the logits ``[N, V]`` at the True positions of ``where``."""
        ...


@dataclass(frozen=True)
class ConditionedForward:
    """The model, with an addition to its token embeddings.

    Attributes:
        added: previous hidden states of the rows (None in the first pass) and the shape ``(b, L)`` -> the addition, or None.
        remembers: True keeps hidden states for the next pass.
    """

    added: Added
    remembers: bool = True

    def start(self, rows: int, block_schedule: BlockSchedule) -> _ConditionedSession:
        """Return the session of one decode."""
        return _ConditionedSession(self.added, self.remembers, rows)


@dataclass
class _ConditionedSession:
    """The state of one decode: ``memory [B, L, D]`` holds the last hidden states of every row of the batch."""

    added: Added
    remembers: bool
    rows: int
    memory: Tensor | None = None

    def positions(self, view: StepView) -> int:
        return int(view.canvas.attention_mask.sum())

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        network = cast(Conditionable, model)
        before = None if self.memory is None else self.memory[view.rows]
        added = self.added(before, (view.ids.shape[0], view.ids.shape[1]))
        hidden = network.hidden_states(view.ids, view.canvas.attention_mask, view.canvas.positions, sum_embeds=added)
        if self.remembers:
            if self.memory is None:  # the first pass includes every row
                self.memory = hidden.new_zeros(self.rows, *hidden.shape[1:])
            self.memory[view.rows] = hidden
        return network.logits_at(hidden, where)
