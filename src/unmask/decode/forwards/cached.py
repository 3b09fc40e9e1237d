"""A forward that runs a part of each row against remembered keys and values. **It is approximate.**

In a bidirectional network every token's keys and values depend on every other token, so those of a token that is not run
again are out of date as soon as anything else changes. A cache trades that error for speed:

    prefix     runs from the open block to the end of the row; what stands before the block is remembered
    dual       runs the open block alone; what follows it is remembered too   (Fast-dLLM, 2505.22618)
    vicinity   runs the open block and the 16 positions on either side of it
    delayed    runs all blanks, and once more each token that was placed since; then it is remembered   (dKV-Cache, 2505.15781)

A row is run whole when its block opens, and again every ``refresh`` evaluations if asked; at ``refresh=1`` nothing is ever
remembered and the answer is that of the plain forward. Without blocks, the open block is all that was blank. For the exact
cache of a block-causal network see ``unmask.decode.forwards.block_cached``.

Shapes: masks ``[b, L]`` over the ``b`` rows of a step; the memory holds all ``B`` rows of the decode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView
from unmask.nn.kv_cache import KVCache

CACHES = ("prefix", "dual", "vicinity", "delayed")
VICINITY = 16


@dataclass(frozen=True)
class CachedForward:
    """Ask the network about a part of each row.

    Attributes:
        kind: one of ``CACHES``.
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
            raise ValueError(
                f"A cache is refreshed every n-th evaluation, n at least 1 (which caches nothing); got {self.refresh}."
            )

    def start(self, rows: int, block_schedule: BlockSchedule) -> CachedSession:
        """The forward of one decode of ``rows`` rows."""
        return CachedSession(self, block_schedule, KVCache(rows), torch.zeros(rows, dtype=torch.int64))


@dataclass
class CachedSession:
    """A cached forward at work. Each call remembers; it serves one decode.

    Attributes:
        rule: what to run.
        window: where the open block is.
        memory: keys and values of all rows.
        age: int64 ``[B]``, evaluations since each row was run whole.
        opened: ``[B, L]``, the block each row was last run whole for.
        stored: int64 ``[B, L]``, the token that the keys and values of each position were made of.
    """

    rule: CachedForward
    block_schedule: BlockSchedule
    memory: KVCache
    age: Int[Tensor, " batch"]
    opened: Bool[Tensor, "batch seq"] | None = None
    stored: Int[Tensor, "batch seq"] | None = None

    def positions(self, view: StepView) -> int:
        """How many tokens a call with this view runs."""
        return int(self._queries(view)[0].sum())

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
        queries, whole = self._queries(view)
        self.age[view.rows] = torch.where(whole, 1, self.age[view.rows] + 1)
        assert self.opened is not None and self.stored is not None
        self.opened[view.rows] = self.block_schedule.region(view.to_fill, view.blanks, view.canvas.positions)
        self.stored[view.rows] = torch.where(queries, view.ids, self.stored[view.rows])
        return logits_by_memory(model, self.memory, view, queries, where)

    def _queries(self, view: StepView) -> tuple[Bool[Tensor, "rows seq"], Bool[Tensor, " rows"]]:
        """The positions to run, and the rows that are run whole."""
        region = self.block_schedule.region(view.to_fill, view.blanks, view.canvas.positions)
        if self.opened is None or self.stored is None:
            self.opened = region.new_zeros(len(self.age), region.shape[1])
            self.stored = view.ids.new_full(self.opened.shape, -1)
            self.age = self.age.to(region.device)
        whole = (region != self.opened[view.rows]).any(-1)
        if self.rule.refresh is not None:
            whole = whole | (self.age[view.rows] >= self.rule.refresh)
        match self.rule.kind:
            case "prefix":
                part = region.long().cumsum(-1) > 0
            case "dual":
                part = region
            case "vicinity":
                part = F.max_pool1d(region.double(), 2 * VICINITY + 1, stride=1, padding=VICINITY) > 0
            case _:
                part = view.blanks | (view.ids != self.stored[view.rows])
        return view.canvas.attention_mask & (part | whole[:, None]), whole


def logits_by_memory(
    model: Any, memory: KVCache, view: StepView, queries: Bool[Tensor, "rows seq"], where: Bool[Tensor, "rows seq"]
) -> Float[Tensor, "scored vocab"]:
    """Run the positions ``queries`` against what is remembered of the others: logits at ``where``, a part of them.

    Raises:
        ValueError: the model cannot run a part of a row.
    """
    if not (hasattr(model, "hidden_states_at") and hasattr(model, "logits_at")):
        raise ValueError(
            f"A cache runs a part of each row against remembered keys and values, and {type(model).__name__} cannot: it has no "
            "methods hidden_states_at and logits_at. Decode it without a cache (cache=None), or use RotaryTransformerMLMModel."
        )
    assert bool((where & ~queries).sum() == 0), "a position was asked for that is not run"
    states = model.hidden_states_at(
        view.ids, queries, memory, view.rows, view.canvas.attention_mask, view.canvas.positions, where
    )
    return model.logits_at(states, states.new_ones(len(states), dtype=torch.bool))  # type: ignore[no-any-return]
