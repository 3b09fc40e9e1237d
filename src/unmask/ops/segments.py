"""Segments: the documents of a packed row.

``segment_ids [B, L]`` number them (0, 1, 2, … within a row; padding has its own id), ``positions [B, L]`` restart at
each, and a document mask ``[B, L, L]`` restricts attention to the token's own document.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def positions_from_mask(attention_mask: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return the position of each real token, counted from the row's first real token; 0 on padding."""
    return ((attention_mask.long().cumsum(-1) - 1).clamp(min=0)) * attention_mask


def segments_from_ends(ends: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return segment ids from a mask of last tokens: the token after an end starts the next segment."""
    count = ends.long().cumsum(-1)
    return torch.cat([torch.zeros_like(count[:, :1]), count[:, :-1]], dim=-1)


def segment_starts(segment_ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """Return True at the first token of every segment."""
    changed = segment_ids[:, 1:] != segment_ids[:, :-1]
    return (
        torch.cat([torch.ones_like(changed[:, :1]), changed], dim=-1)
        if segment_ids.shape[1] > 1
        else torch.ones_like(segment_ids, dtype=torch.bool)
    )


def positions_from_segments(segment_ids: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return positions that restart at 0 with every segment."""
    index = torch.arange(segment_ids.shape[1], device=segment_ids.device).expand_as(segment_ids)
    starts = torch.where(segment_starts(segment_ids), index, 0).cummax(-1).values
    return index - starts


def shifted_right(
    ids: Int[Tensor, "batch seq"], positions: Int[Tensor, "batch seq"], first: int
) -> Int[Tensor, "batch seq"]:
    """Return at each position the token before it; ``first`` at column 0 and where positions restart at 0.

    Examples:
        >>> import torch
        >>> shifted_right(torch.tensor([[5, 6, 7, 8]]), torch.tensor([[0, 1, 0, 1]]), first=9)
        tensor([[9, 5, 9, 7]])
    """
    before = torch.cat([torch.full_like(ids[:, :1], first), ids[:, :-1]], 1)
    return before.masked_fill(positions == 0, first)


def document_mask(segment_ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq seq"]:
    """Return True where query and key belong to the same document."""
    return segment_ids[:, :, None] == segment_ids[:, None, :]
