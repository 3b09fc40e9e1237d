"""Observers: callbacks of a decode.

An observer is any object with ``update_history(step_results)``. Two methods are optional: ``begin(canvas, special)``, called before
the first step, and ``end(decoded)``, called after the last. An attribute ``wants_all_logits = True`` requests logits at every candidate, even
if the rules need fewer. It costs the projection there, and changes no result.

Without observers none of this is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas


@dataclass(frozen=True)
class Decoded:
    """The result of a decode.

    Attributes:
        ids: int64 ``[B, L]``, the canvas with every masked position filled; padding unchanged.
        steps_taken: int64 ``[B]``, forward passes per row (NFE).
        time_taken: float64 ``[B]``, seconds from the start until the row was complete.
        forward_passes: calls of the network, each over the unfinished rows.
        positions_computed: real tokens processed by the network, over all calls.

    Examples:
        >>> import torch
        >>> special = SpecialIds(mask=0, vocab_size=20)
        >>> def model(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 20)
        >>> canvas = Canvas.infill(torch.tensor([[5, 0, 0, 6], [5, 0, 6, 7]]), special)
        >>> decoded = fill_canvas(model, canvas, make_rules(2), special=special, seed=0)
        >>> decoded.steps_taken.tolist(), decoded.forward_passes, decoded.positions_computed
        ([2, 1], 2, 12)
    """

    ids: Int[Tensor, "batch seq"]
    steps_taken: Int[Tensor, " batch"]
    time_taken: Float[Tensor, " batch"]
    forward_passes: int
    positions_computed: int


@runtime_checkable
class Observer(Protocol):
    """The required method of an observer; see the module for the optional ones."""

    def update_history(self, step_results: MLMStepResults) -> None:
        """Receive the results of one step."""
        ...


class CallbackList:
    """The observers of one decode.

    Args:
        observers: objects with ``update_history``.

    Raises:
        ValueError: an observer without ``update_history``.
    """

    def __init__(self, observers: Sequence[Any]) -> None:
        for observer in observers:
            if not isinstance(observer, Observer):
                raise ValueError(
                    f"{type(observer).__name__} cannot observe a decode: it has no method update_history(step_results). "
                    "Give it one, or pass a HistoryTopKPlugin, a Trace or a TerminalView."
                )
        self.observers: tuple[Any, ...] = tuple(observers)
        self.wants_all_logits: bool = any(getattr(o, "wants_all_logits", False) for o in self.observers)

    def __bool__(self) -> bool:
        return bool(self.observers)

    def _call(self, method: str, *arguments: Any) -> None:
        for observer in self.observers:
            callback = getattr(observer, method, None)
            if callback is not None:
                callback(*arguments)

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Call ``begin`` before the first step."""
        self._call("begin", canvas, special)

    def update_history(self, step_results: MLMStepResults) -> None:
        """Call ``update_history`` after each step."""
        self._call("update_history", step_results)

    def end(self, decoded: Decoded) -> None:
        """Call ``end`` after the last step."""
        self._call("end", decoded)
