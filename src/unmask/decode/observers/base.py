"""Who is told of each step, and at what price.

An observer is any object with ``update_history(step_results)``. It may also have ``begin(canvas, special)``, called before
the first step, and ``end(decoded)``, called after the last; ``every_candidate = True`` asks for logits at every blank even
where the rules need them at fewer positions (it costs the projection there, and changes no result).

Without observers nothing of this is computed.
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
    """What the loop returns.

    Attributes:
        ids: int64 ``[B, L]``, the canvas with every blank filled; padding as it was given.
        steps_taken: int64 ``[B]``, network evaluations each row took part in.
        time_taken: float64 ``[B]``, seconds from the start until the row was finished.
        evaluations: calls of the network, each over the rows unfinished then.
        positions_computed: real tokens run through the network, over all calls.
    """

    ids: Int[Tensor, "batch seq"]
    steps_taken: Int[Tensor, " batch"]
    time_taken: Float[Tensor, " batch"]
    forward_passes: int
    positions_computed: int


@runtime_checkable
class Observer(Protocol):
    """The one method an observer must have; see the module for the others."""

    def update_history(self, step_results: MLMStepResults) -> None: ...


class CallbackList:
    """The observers of one decode, told together.

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
        self.observers = tuple(observers)
        self.wants_all_logits = any(getattr(o, "wants_all_logits", False) for o in self.observers)

    def __bool__(self) -> bool:
        return bool(self.observers)

    def _tell(self, method: str, *facts: Any) -> None:
        for observer in self.observers:
            hear = getattr(observer, method, None)
            if hear is not None:
                hear(*facts)

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Before the first step."""
        self._tell("begin", canvas, special)

    def update_history(self, step_results: MLMStepResults) -> None:
        """After each step."""
        self._tell("update_history", step_results)

    def end(self, decoded: Decoded) -> None:
        """After the last."""
        self._tell("end", decoded)
