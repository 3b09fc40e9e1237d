"""Laying ragged rows out as a rectangle: truncate, pad left or right, stack.

Rows are int64 arrays; the answer is ids ``[B, W]`` and a bool mask ``[B, W]``, True = a real token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.collate.rows import Ragged
from unmask.contracts import Truncate


def width_of(longest: int, block_size: int, truncate: Truncate | None, multiple: int | None = None) -> int:
    """How wide a batch is: ``block`` always ``block_size``, ``max`` at most that, None as long as the longest row.

    The last two are rounded up to a multiple of ``multiple``, and rows of nothing are one PAD wide: no network takes less.
    """
    if truncate == "block":
        return block_size
    wide = rounded_up(max(1, longest), multiple)
    return min(wide, block_size) if truncate == "max" else wide


def rounded_up(width: int, multiple: int | None) -> int:
    """``width``, or the next multiple of ``multiple``."""
    return width if multiple is None else -(-width // multiple) * multiple


def check_truncate(truncate: Truncate | None, block_size: int, room_for: int = 0, multiple: int | None = None) -> None:
    """``ValueError`` unless ``truncate`` is a documented value and ``block_size`` holds more than its specials, in
    whole multiples of ``multiple``."""
    if truncate not in ("block", "max", None):
        raise ValueError(
            f"truncate={truncate!r} is not known: 'block' pads and truncates to block_size, 'max' pads to the longest "
            "row and truncates at block_size, None only pads to the longest row."
        )
    if block_size <= room_for:
        raise ValueError(
            f"block_size={block_size} leaves no room for text beside {room_for} special tokens. Use a larger block_size."
        )
    if multiple is not None and (multiple < 1 or (truncate is not None and block_size % multiple)):
        raise ValueError(
            f"pad_to_multiple_of={multiple} and block_size={block_size} do not fit: rows of truncate={truncate!r} are at most "
            "block_size wide, so block_size must itself be a multiple (such as 512 of 64)."
        )


def frame(rows: Ragged, width: int | None, before: Sequence[int] = (), after: Sequence[int] = ()) -> list[np.ndarray]:
    """Put ``before`` and ``after`` around every row; rows lose their end so that all fits ``width``."""
    room = None if width is None else width - len(before) - len(after)
    if not before and not after:
        return [row[:room] for row in rows]
    head, tail = np.asarray(before, dtype=np.int64), np.asarray(after, dtype=np.int64)
    return [np.concatenate([head, row[:room], tail]) for row in rows]


def keep_end(rows: Ragged, rooms: Sequence[int]) -> list[np.ndarray]:
    """The last ``rooms[b]`` tokens of each row: a prompt that is too long loses its beginning."""
    return [row[max(0, len(row) - room) :] for row, room in zip(rows, rooms, strict=True)]


def pad(
    rows: Ragged, width: int, pad_id: int, left: bool = False
) -> tuple[Int[Tensor, "batch width"], Bool[Tensor, "batch width"]]:
    """Stack rows of at most ``width`` tokens.

    Args:
        rows: ``B`` arrays, or a matrix that is stacked already.
        width: the batch's width.
        pad_id: what fills the rest.
        left: pad before the tokens rather than after.

    Returns:
        ids int64 ``[B, width]`` and the mask of real tokens.
    """
    if isinstance(rows, np.ndarray) and rows.shape[1] == width:
        return torch.from_numpy(rows), torch.from_numpy(np.ones(rows.shape, dtype=bool))
    lengths = np.array([len(row) for row in rows])
    assert len(lengths) == 0 or lengths.max() <= width, "rows are truncated before they are padded"
    place = np.arange(width)
    mask = place >= width - lengths[:, None] if left else place < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows) if len(rows) else []
    return torch.from_numpy(ids), torch.from_numpy(mask)
