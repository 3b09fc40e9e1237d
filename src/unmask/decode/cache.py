"""A forward that runs a part of each row against remembered keys and values. **It is approximate.**

In a bidirectional network every token's keys and values depend on every other token, so those of a token that is not run
again are out of date as soon as anything else changes. A cache trades that error for speed:

    prefix   runs from the open block to the end of the row; what stands before the block is remembered
    dual     runs the open block alone; what follows it is remembered too   (Fast-dLLM, 2505.22618)

A row is run whole when its block opens, and again every ``refresh`` evaluations if asked; at ``refresh=1`` nothing is ever
remembered and the answer is that of the plain forward. Without blocks, the open block is all that was blank, and only the
given tokens are remembered.

Shapes: masks ``[b, L]`` over the ``b`` rows of a step; the memory holds all ``B`` rows of the decode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.view import StepView
from unmask.decode.windows import Window
from unmask.nn.memory import KeyValues

CACHES = ("prefix", "dual")


@dataclass(frozen=True)
class CachedForward:
    """Ask the network about a part of each row.

    Attributes:
        kind: ``"prefix"`` or ``"dual"``.
        refresh: run a row whole at every ``refresh``-th of its evaluations; None = only when a block opens.

    Raises:
        ValueError: another kind, or a refresh below 1.
    """

    kind: str = "prefix"
    refresh: int | None = None
    passes: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.kind not in CACHES:
            raise ValueError(f"There is no cache {self.kind!r}. Choose one of {', '.join(CACHES)}, or None.")
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(f"A cache is refreshed every n-th evaluation, n at least 1 (which caches nothing); got {self.refresh}.")

    def start(self, rows: int, window: Window) -> Remembering:
        """The forward of one decode of ``rows`` rows."""
        return Remembering(self, window, KeyValues(rows), torch.zeros(rows, dtype=torch.int64))


@dataclass
class Remembering:
    """A cached forward at work. Each call remembers; it serves one decode.

    Attributes:
        rule: what to run.
        window: where the open block is.
        memory: keys and values of all rows.
        age: int64 ``[B]``, evaluations since each row was run whole.
        opened: ``[B, L]``, the block each row was last run whole for.
    """

    rule: CachedForward
    window: Window
    memory: KeyValues
    age: Int[Tensor, " batch"]
    opened: Bool[Tensor, "batch seq"] | None = None

    def positions(self, view: StepView) -> int:
        """How many tokens a call with this view runs."""
        return int(self._queries(view)[0].sum())

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
        if not (hasattr(model, "hidden_states_at") and hasattr(model, "logits_at")):
            raise ValueError(
                f"A cache runs a part of each row against remembered keys and values, and {type(model).__name__} cannot: it has no "
                "methods hidden_states_at and logits_at. Decode it without a cache (cache=None), or use RotaryTransformerMLMModel."
            )
        queries, whole = self._queries(view)
        assert bool((where & ~queries).sum() == 0), "a position was asked for outside the open block"
        self.age[view.rows] = torch.where(whole, 1, self.age[view.rows] + 1)
        assert self.opened is not None
        self.opened[view.rows] = self.window.region(view.wanted, view.blanks)
        hidden = model.hidden_states_at(view.ids, queries, self.memory, view.rows, view.canvas.attention_mask, view.canvas.positions)
        return model.logits_at(hidden, where[queries])

    def _queries(self, view: StepView) -> tuple[Bool[Tensor, "rows seq"], Bool[Tensor, " rows"]]:
        """The positions to run, and the rows that are run whole."""
        region = self.window.region(view.wanted, view.blanks)
        if self.opened is None:
            self.opened = region.new_zeros(len(self.age), region.shape[1])
            self.age = self.age.to(region.device)
        whole = (region != self.opened[view.rows]).any(-1)
        if self.rule.refresh is not None:
            whole = whole | (self.age[view.rows] >= self.rule.refresh)
        part = region if self.rule.kind == "dual" else region.long().cumsum(-1) > 0
        return view.canvas.attention_mask & (part | whole[:, None]), whole
