"""Cached keys and values of encoder layers, for decoding.

A call runs some positions only. Their keys and values replace the cached ones; their queries attend to all real
positions of their row, cached or new (in block-causal attention: to those of no later block). A call that runs every
real position is plain attention.

Shapes: the cache holds ``B`` rows; a call has ``b`` of them with ``L`` positions each, and runs ``T`` tokens, the True
ones of ``where [b, L]``, row-major.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.nn.attention import AttentionPlan, Heads, Reads


class KVCache:
    """The cache of one decode: ``[B, L, H, C]`` keys and values per layer, allocated at the first call.

    Args:
        rows: number of cached rows.

    Examples:
        >>> import torch
        >>> cache = KVCache(rows=2)
        >>> keys, values = cache.layer(0, like=torch.ones(5, 4, 8), seq=6)
        >>> keys.shape, float(values.sum())
        (torch.Size([2, 6, 4, 8]), 0.0)
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._layers: list[tuple[Tensor, Tensor]] = []

    def layer(self, number: int, like: Heads, seq: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer, initially zero."""
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
        """Return one attention plan per layer.

        Args:
            layers: number of layers of the encoder.
            where: ``[b, L]``, the positions to run.
            rows: int64 ``[b]`` in ``0..B-1``, the cached rows of this call.
            attention_mask: ``[b, L]``, True = real.
            blocks: ``[b, L]``, attention block of each position in block-causal attention.
            read: ``[b, L]``, subset of ``where`` whose queries the last layer may compute alone.
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
    """Rows ``[n]`` with equally many queries.

    Attributes:
        rows: cached rows.
        index: ``[n, m]``, indices of the queries among the tokens.
        span: columns with visible keys.
        mask: ``[n, 1, 1 or m, l]`` over ``span``; None = all visible.
    """

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
    for count in [n for n in torch.unique(counts).tolist() if n]:
        members = (counts == count).nonzero()[:, 0]
        index = starts[members][:, None] + torch.arange(count, device=where.device)
        visible = attention_mask[members][:, None]  # [n, 1 or m, L]
        if blocks is not None:
            own = blocks[members]
            visible = visible & (own[:, None] <= own[where[members]].view(len(members), count, 1))
        columns = visible.flatten(0, 1).any(0).nonzero()[:, 0]
        span = slice(int(columns[0]), int(columns[-1]) + 1)
        visible = visible[..., span]
        groups.append(_Group(rows[members], index, span, None if bool(visible.all()) else visible[:, None]))
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
        """Return attention as :meth:`unmask.nn.attention.DocumentPlan.at`; ``read`` are the tokens given to
        :meth:`KVCache.plans`.
        """
        return self._attend(self.reading, q, k, v, dropout)

    def _attend(self, groups: tuple[_Group, ...], q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        keys, values = self.memory.layer(self.layer, k, self.seq)
        keys.view(-1, *k.shape[1:])[self.places] = k
        values.view(-1, *v.shape[1:])[self.places] = v
        out = torch.empty_like(q)
        for group in groups:
            # Indexing would copy; skip it while all rows are present and have equally many queries.
            all_rows = len(group.rows) == len(keys) and bool((group.rows.diff() == 1).all())
            k_rows, v_rows = ((x if all_rows else x[group.rows])[:, group.span].transpose(1, 2) for x in (keys, values))
            attended = F.scaled_dot_product_attention(
                q[group.index].transpose(1, 2), k_rows, v_rows, attn_mask=group.mask, dropout_p=dropout
            )
            out[group.index.flatten()] = attended.transpose(1, 2).flatten(0, 1)
        return out
