"""KV caches for bidirectional networks: run part of each row against cached keys and values. **They are approximate.**

In a bidirectional network every token's keys and values depend on every other token. Those of a token that is not run
again are stale as soon as any other token changes. The caches trade that error for speed:

    prefix     run from the open block to the end of the row; the positions before the block are cached
    dual       run the open block alone; the positions after it are cached too   (Fast-dLLM, 2505.22618)
    vicinity   run the open block and the 16 positions on either side of it
    delayed    run all masked positions, and once more each token placed since   (dKV-Cache, 2505.15781)

A whole row runs when its block opens, and every ``refresh`` forward passes if given. With ``refresh=1`` nothing is cached,
and the result is that of the plain forward. Without blocks, the open block is every position that was masked. For the exact
cache of a block-causal network see ``unmask.decode.forwards.block_cached``.

Shapes: masks ``[b, L]`` over the ``b`` rows of a step; the cache holds all ``B`` rows of the decode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import MLMModel, offers_kv_cache
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView
from unmask.nn.kv_cache import KVCache

VICINITY = 16

KINDS: dict[str, Callable[[Tensor, StepView, Tensor], Tensor]] = {
    "prefix": lambda region, view, stored: region.long().cumsum(-1) > 0,
    "dual": lambda region, view, stored: region,
    "vicinity": lambda region, view, stored: (
        F.max_pool1d(region.double(), 2 * VICINITY + 1, stride=1, padding=VICINITY) > 0
    ),
    "delayed": lambda region, view, stored: view.blanks | (view.ids != stored),
}
"""By kind: open block ``[b, L]``, view, token of each cached position ``[b, L]`` -> the positions to run ``[b, L]``."""


@dataclass(frozen=True)
class CachedForward:
    """Run part of each row.

    Attributes:
        kind: one of ``KINDS``.
        refresh: recompute a whole row every ``refresh`` forward passes; None = only when a block opens.

    Raises:
        ValueError: another kind, or a refresh interval below 1.
    """

    kind: str = "prefix"
    refresh: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"There is no cache {self.kind!r}. Choose one of {', '.join(KINDS)}, or None.")
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(
                f"cache_refresh={self.refresh} is an interval in forward passes: give at least 1 (which caches nothing), or None."
            )

    def start(self, rows: int, block_schedule: BlockSchedule) -> CachedSession:
        """Return the session of one decode of ``rows`` rows."""
        return CachedSession(self, block_schedule, KVCache(rows), torch.zeros(rows, dtype=torch.int64))


def prefix_cache(refresh: int | None) -> CachedForward:
    """Return the cache of the positions before the open block."""
    return CachedForward("prefix", refresh)


def dual_cache(refresh: int | None) -> CachedForward:
    """Return the cache of the positions before and after the open block."""
    return CachedForward("dual", refresh)


def vicinity_cache(refresh: int | None) -> CachedForward:
    """Return the cache of all positions but the open block and its neighbours."""
    return CachedForward("vicinity", refresh)


def delayed_cache(refresh: int | None) -> CachedForward:
    """Return the cache of all positions but masked and newly unmasked ones."""
    return CachedForward("delayed", refresh)


@dataclass
class CachedSession:
    """The cache of one decode, updated by every call.

    Attributes:
        rule: which positions to run.
        block_schedule: where the open block is.
        memory: keys and values of all rows.
        age: int64 ``[B]``, forward passes since each whole row was run.
        opened: ``[B, L]``, the open block at each row's last whole run.
        stored: int64 ``[B, L]``, the token that the keys and values of each position were computed from.
    """

    rule: CachedForward
    block_schedule: BlockSchedule
    memory: KVCache
    age: Int[Tensor, " batch"]
    opened: Bool[Tensor, "batch seq"] | None = None
    stored: Int[Tensor, "batch seq"] | None = None

    def positions(self, view: StepView) -> int:
        """Return the number of tokens that a call with this view processes."""
        return int(self._queries(view)[0].sum())

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return the logits at ``where``.

        Raises:
            ValueError: the model cannot run part of a row.
        """
        queries, full = self._queries(view)
        self.age[view.rows] = torch.where(full, 1, self.age[view.rows] + 1)
        assert self.opened is not None and self.stored is not None
        self.opened[view.rows] = self.block_schedule.region(view.to_fill, view.blanks, view.canvas.positions)
        self.stored[view.rows] = torch.where(queries, view.ids, self.stored[view.rows])
        return logits_by_memory(model, self.memory, view, queries, where)

    def _queries(self, view: StepView) -> tuple[Bool[Tensor, "rows seq"], Bool[Tensor, " rows"]]:
        """Return the positions to run, and the rows that run completely."""
        region = self.block_schedule.region(view.to_fill, view.blanks, view.canvas.positions)
        if self.opened is None or self.stored is None:
            self.opened = region.new_zeros(len(self.age), region.shape[1])
            self.stored = view.ids.new_full(self.opened.shape, -1)
            self.age = self.age.to(region.device)
        full = (region != self.opened[view.rows]).any(-1)
        if self.rule.refresh is not None:
            full = full | (self.age[view.rows] >= self.rule.refresh)
        part = KINDS[self.rule.kind](region, view, self.stored[view.rows])
        return view.canvas.attention_mask & (part | full[:, None]), full


def logits_by_memory(
    model: MLMModel,
    memory: KVCache,
    view: StepView,
    queries: Bool[Tensor, "rows seq"],
    where: Bool[Tensor, "rows seq"],
) -> Float[Tensor, "scored vocab"]:
    """Run the positions ``queries`` against the cache; return the logits at ``where``, a subset of them.

    Raises:
        ValueError: the model cannot run part of a row.
    """
    if not offers_kv_cache(model):
        raise ValueError(
            f"A KV cache runs part of each row, and {type(model).__name__} cannot: it has no "
            "methods hidden_states_at and logits_at. Decode it without a cache (cache=None), or use RotaryTransformerMLMModel."
        )
    assert bool((where & ~queries).sum() == 0), "logits are requested at a position that is not run"
    states = model.hidden_states_at(
        view.ids, queries, memory, view.rows, view.canvas.attention_mask, view.canvas.positions, where
    )
    return model.logits_at(states, states.new_ones(len(states), dtype=torch.bool))
