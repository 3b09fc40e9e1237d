"""Rearranged rows, for networks without support for padding or packed rows.

    real_first       padding moved behind the real tokens of each row
    equal_lengths    rows without padding, in groups of equal length
    one_a_row        the documents of packed rows, each in a row of its own

Each returns indices, so that ids, positions and states follow by the same gather. Shapes: masks ``[B, L]``, True = real
token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.ops.segments import positions_from_mask


def real_first(real: Bool[Tensor, "batch seq"]) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Return the order with each row's real tokens first, and its inverse. Needs no device sync."""
    order = (~real).to(torch.int8).argsort(dim=-1, stable=True)
    return order, order.argsort(dim=-1)


def equal_lengths(real: Bool[Tensor, "batch seq"]) -> Iterator[Int[Tensor, "rows length"]]:
    """Yield flat indices ``[R, n]`` of the real tokens of all rows of length ``n``, for every ``n > 0``. Syncs with the
    host.
    """
    tokens, lengths = real.flatten().nonzero()[:, 0], real.sum(-1)
    starts = lengths.cumsum(0) - lengths
    for length in torch.unique(lengths).tolist():
        if length:
            yield tokens[starts[lengths == length][:, None] + torch.arange(length, device=real.device)]


def one_a_row(
    segment_ids: Int[Tensor, "batch seq"], real: Bool[Tensor, "batch seq"] | None
) -> tuple[Int[Tensor, "documents length"], Bool[Tensor, "documents length"]]:
    """Return flat indices ``[D, n]`` of the tokens of every document, and the mask of real ones (right padding).

    A document is a maximal run of real tokens with one segment id in one row. Reads the number of documents on the
    host.
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
    """Return positions counted from each row's first real token."""
    if real is not None:
        return positions_from_mask(real)
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)


def before(ids: Tensor, real: Bool[Tensor, "batch seq"] | None) -> Int[Tensor, "batch seq"]:
    """Return the place of the real token before each token; of a row's first, its own place."""
    place = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    last = (place if real is None else torch.where(real, place, -1)).cummax(1).values  # real, up to here
    earlier = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], 1)
    return torch.where(earlier < 0, place, earlier)


def in_parts(run: Callable[..., Tensor], index: list[Tensor], *rows: Tensor | None) -> Float[Tensor, "batch seq width"]:
    """Run a function on parts of rows, and scatter its outputs to the positions of the parts.

    Args:
        run: parts of the rows ``[R, n, ...]`` -> states ``[R, n, D]``.
        index: flat indices ``[R, n]`` of the tokens of every part.
        rows: ``[B, L, ...]`` each, or None.

    Returns:
        ``[B, L, D]``, zero at tokens outside all parts.
    """
    ids = next(row for row in rows if row is not None)
    flat = [None if row is None else row.flatten(0, 1) for row in rows]
    states = [run(*(None if row is None else row[part] for row in flat)).flatten(0, 1) for part in index]
    flat_states = states[0].new_zeros(ids.shape[0] * ids.shape[1], states[0].shape[-1])
    return flat_states.index_copy(0, torch.cat([part.flatten() for part in index]), torch.cat(states)).view(
        *ids.shape[:2], -1
    )


def run_unpadded(
    run: Callable[[Tensor, Tensor | None], Tensor],
    ids: Int[Tensor, "batch seq"],
    attention_mask: Tensor | None,
    positions: Int[Tensor, "batch seq"] | None,
    block_mask: Any,
    segment_ids: Int[Tensor, "batch seq"] | None,
    added: Float[Tensor, "batch seq embedding"] | None = None,
) -> Float[Tensor, "batch seq width"]:
    """Run a network without support for padding, packed rows or positions: each document alone, equal lengths together.

    Args:
        run: ids ``[R, n]`` and additions to their embeddings -> states ``[R, n, D]``.
        ids, attention_mask, positions, block_mask, segment_ids, added: as of
            ``RotaryTransformerMLMModel.hidden_states``.

    Raises:
        ValueError: a ``block_mask`` without ``segment_ids``, or positions that do not count from the start of each
            document.
    """
    if block_mask is not None and segment_ids is None:
        raise ValueError(
            "This network does not support a block_mask. Give segment_ids instead: each document of a packed row then runs alone."
        )
    real = None if attention_mask is None else attention_mask.bool()
    index = None
    if segment_ids is not None:
        documents, inside = one_a_row(segment_ids, real)
        index = [documents.flatten()[part] for part in equal_lengths(inside)]
    elif real is not None and not bool(real.all()):
        index = list(equal_lengths(real))
    if positions is not None:
        flat = positions.flatten()
        for given in [positions] if index is None else [flat[part] for part in index]:
            if not torch.equal(given, torch.arange(given.shape[1], device=given.device).expand_as(given)):
                raise ValueError(
                    "This network counts positions itself, and the given positions differ from 0, 1, 2, … from the start of each document. "
                    "Leave positions out, or use RotaryTransformerMLMModel."
                )
    return in_parts(run, index, ids, added) if index else run(ids, added)
