"""Rows rearranged for a network that cannot read them as they come.

    real_first       padding moved behind the real tokens of each row
    equal_lengths    rows without any padding, in groups of one length
    one_a_row        the documents of packed rows, each in a row of its own

Each returns indices, so ids, positions and states follow by the same gather. Shapes: masks ``[B, L]``, True = real token.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.ops.segments import positions_from_mask


def real_first(real: Bool[Tensor, "batch seq"]) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """The order that puts each row's real tokens first, and the order that undoes it. Needs no device sync."""
    order = (~real).to(torch.int8).argsort(dim=-1, stable=True)
    return order, order.argsort(dim=-1)


def equal_lengths(real: Bool[Tensor, "batch seq"]) -> Iterator[Int[Tensor, "rows length"]]:
    """Flat indices ``[R, n]`` of the real tokens of all rows with ``n`` of them, for every ``n`` above 0. Reads lengths on the host."""
    tokens, lengths = real.flatten().nonzero()[:, 0], real.sum(-1)
    starts = lengths.cumsum(0) - lengths
    for length in lengths.unique().tolist():
        if length:
            yield tokens[starts[lengths == length][:, None] + torch.arange(length, device=real.device)]


def one_a_row(
    segment_ids: Int[Tensor, "batch seq"], real: Bool[Tensor, "batch seq"] | None
) -> tuple[Int[Tensor, "documents length"], Bool[Tensor, "documents length"]]:
    """Flat indices ``[D, n]`` of the tokens of every document, and which of them are real: shorter ones are padded on the right.

    A document is a longest run of real tokens with one segment id in one row. Reads the number of documents on the host.
    """
    width = segment_ids.shape[1]
    everywhere = torch.ones_like(segment_ids, dtype=torch.bool) if real is None else real
    tokens = everywhere.flatten().nonzero()[:, 0]
    row, segment = tokens // width, segment_ids.flatten()[tokens]
    starts = torch.ones_like(tokens, dtype=torch.bool)
    starts[1:] = (row[1:] != row[:-1]) | (segment[1:] != segment[:-1])
    first = starts.nonzero()[:, 0]
    lengths = torch.diff(first, append=first.new_tensor([len(tokens)]))
    steps = torch.arange(int(lengths.max()) if len(lengths) else 0, device=tokens.device)
    inside = steps < lengths[:, None]
    return tokens[(first[:, None] + steps).clamp(max=max(len(tokens) - 1, 0))], inside


def default_positions(ids: Tensor, real: Bool[Tensor, "batch seq"] | None) -> Int[Tensor, "batch seq"]:
    """Positions of tokens where nobody gives any: from each row's first real token."""
    if real is not None:
        return positions_from_mask(real)
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
