"""Keys and values that are kept from one call of an encoder to the next.

A call runs some positions only. Their keys and values replace those stored for them; their queries attend to all real
positions of their row (where attention is block-causal: to those of no later block), whatever is stored there. Run on every real
position, that is plain attention.

Shapes: ``B`` rows are remembered; a call is about ``b`` of them, ``L`` positions each, and runs ``T`` tokens, the True ones
of ``where [b, L]``, row-major.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.nn.attention import AttentionPlan, Heads, Reads


class KVCache:
    """The memory of one decode: ``[B, L, H, C]`` keys and values per layer, made at the first call.

    Args:
        rows: how many rows are remembered.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._layers: list[tuple[Tensor, Tensor]] = []

    def layer(self, number: int, like: Heads, seq: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer; zeros until something is stored."""
        if number == len(self._layers):
            shape = (self.rows, seq, *like.shape[1:])
            self._layers.append((like.new_zeros(shape), like.new_zeros(shape)))
        return self._layers[number]

    def plans(
        self,
        layers: int,
        where: Bool[Tensor, "rows seq"],
        rows: Int[Tensor, " rows"],
        attention_mask: Bool[Tensor, "rows seq"],
        blocks: Int[Tensor, "rows seq"] | None = None,
        read: Bool[Tensor, "rows seq"] | None = None,
    ) -> list[AttentionPlan]:
        """One attention plan per layer.

        Args:
            layers: of the encoder.
            where: ``[b, L]``, the positions that are run.
            rows: int64 ``[b]`` in ``0..B-1``, which of the remembered rows these are.
            attention_mask: ``[b, L]``, True = real.
            blocks: ``[b, L]``, each position's attention block, where attention is block-causal.
            read: ``[b, L]``, the part of ``where`` whose queries the last layer's plan can be asked for alone.
        """
        row, column = where.nonzero(as_tuple=True)
        places = rows[row] * where.shape[1] + column
        groups = _by_query_count(where, rows, attention_mask, blocks)
        reading = () if read is None else _by_query_count(read, rows, attention_mask, blocks)
        return [
            _CachedAttentionPlan(self, number, where.shape[1], places, groups, reading if number == layers - 1 else ())
            for number in range(layers)
        ]


@dataclass(frozen=True)
class _Group:
    """Rows ``[n]`` with equally many queries, ``index [n, m]`` into the tokens; ``mask [n, 1, 1 or m, l]`` over ``span``, or None."""

    rows: Int[Tensor, " n"]
    index: Int[Tensor, "n m"]
    span: slice
    mask: Tensor | None


def _by_query_count(
    where: Bool[Tensor, "rows seq"],
    rows: Int[Tensor, " rows"],
    attention_mask: Bool[Tensor, "rows seq"],
    blocks: Int[Tensor, "rows seq"] | None,
) -> tuple[_Group, ...]:
    counts = where.sum(-1)
    starts = counts.cumsum(0) - counts
    groups = []
    for count in [n for n in counts.unique().tolist() if n]:
        chosen = (counts == count).nonzero()[:, 0]
        index = starts[chosen][:, None] + torch.arange(count, device=where.device)
        visible = attention_mask[chosen][:, None]  # [n, 1 or m, L]
        if blocks is not None:
            own = blocks[chosen]
            visible = visible & (own[:, None] <= own[where[chosen]].view(len(chosen), count, 1))
        columns = visible.flatten(0, 1).any(0).nonzero()[:, 0]
        span = slice(int(columns[0]), int(columns[-1]) + 1)
        visible = visible[..., span]
        groups.append(_Group(rows[chosen], index, span, None if bool(visible.all()) else visible[:, None]))
    return tuple(groups)


@dataclass(frozen=True, eq=False)
class _CachedAttentionPlan:
    """The attention of one layer in one call."""

    memory: KVCache
    layer: int
    seq: int
    places: Int[Tensor, " tokens"]
    groups: tuple[_Group, ...]
    reading: tuple[_Group, ...]

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        return self._attend(self.groups, q, k, v, dropout)

    def at(self, read: Int[Tensor, " read"], q: Reads, k: Heads, v: Heads, dropout: float) -> Reads:
        """As :meth:`unmask.nn.attention.DocumentPlan.at`; ``read`` are the tokens that the plan was made to be asked for."""
        return self._attend(self.reading, q, k, v, dropout)

    def _attend(self, groups: tuple[_Group, ...], q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        keys, values = self.memory.layer(self.layer, k, self.seq)
        keys.view(-1, *k.shape[1:])[self.places] = k
        values.view(-1, *v.shape[1:])[self.places] = v
        out = torch.empty_like(q)
        for group in groups:
            # Indexing copies; as long as no row has left, and all have equally many queries, there is no need to.
            whole = len(group.rows) == len(keys) and bool((group.rows.diff() == 1).all())
            k_rows, v_rows = ((x if whole else x[group.rows])[:, group.span].transpose(1, 2) for x in (keys, values))
            attended = F.scaled_dot_product_attention(
                q[group.index].transpose(1, 2), k_rows, v_rows, attn_mask=group.mask, dropout_p=dropout
            )
            out[group.index.flatten()] = attended.transpose(1, 2).flatten(0, 1)
        return out
