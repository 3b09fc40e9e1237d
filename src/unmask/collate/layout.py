"""From ragged rows to a rectangle: frame, truncate, pad left or right, stack.

Rows are int64 arrays. The result is ids ``[B, W]`` and a bool mask ``[B, W]``, True = real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.collate.rows import Ragged
from unmask.contracts import SpecialIds, Truncate


@dataclass(frozen=True)
class Layout:
    """The framing, truncation and padding of one collator.

    Attributes:
        pad_id: id of the padding token.
        block_size: width under ``truncate="block"`` and largest width under ``"max"``, ``before`` and ``after`` included.
        truncate: ``"block"``: every batch is ``block_size`` wide. ``"max"``: as wide as the longest row, at most
            ``block_size``. None: as wide as the longest row, nothing truncated.
        before, after: ids around every row: BOS and EOS, or nothing.
        pad_to_multiple_of: round the width up to a multiple.
    """

    pad_id: int
    block_size: int
    truncate: Truncate | None
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    pad_to_multiple_of: int | None = None

    @classmethod
    def of(
        cls,
        special: SpecialIds,
        block_size: int,
        truncate: Truncate | None,
        pad_to_multiple_of: int | None = None,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
    ) -> Layout:
        """Check the options of a collator.

        Raises:
            ValueError: a required special token is missing, ``truncate`` is unknown, or the numbers contradict each other.
        """
        pad_id = cast(int, special.require("pad").pad)
        before = (cast(int, special.require("bos").bos),) if add_bos else ()
        after = (cast(int, special.require("eos").eos),) if add_eos else ()
        if truncate not in ("block", "max", None):
            raise ValueError(
                f"truncate={truncate!r} is not known: 'block' pads and truncates to block_size, 'max' pads to the longest "
                "row and truncates at block_size, None only pads to the longest row."
            )
        if block_size <= len(before) + len(after):
            raise ValueError(
                f"block_size={block_size} leaves no room for text beside {len(before) + len(after)} special tokens. Use a "
                "larger block_size."
            )
        multiple = pad_to_multiple_of
        if multiple is not None and (multiple < 1 or (truncate is not None and block_size % multiple)):
            raise ValueError(
                f"pad_to_multiple_of={multiple} and block_size={block_size} do not fit: rows of truncate={truncate!r} are at "
                "most block_size wide, so block_size must itself be a multiple (such as 512 of 64)."
            )
        return cls(pad_id, block_size, truncate, before, after, pad_to_multiple_of)

    @property
    def limit(self) -> int | None:
        """The largest width, or None without truncation."""
        return self.block_size if self.truncate else None

    def width(self, longest: int) -> int:
        """Return the width of a batch whose longest row has ``longest`` tokens."""
        return width_of(longest, self.block_size, self.truncate, self.pad_to_multiple_of)

    def stack(self, rows: Ragged) -> tuple[Int[Tensor, "batch width"], Bool[Tensor, "batch width"]]:
        """Pad truncated rows on the right and stack them."""
        return pad(rows, self.width(max(map(len, rows))), self.pad_id)


def width_of(longest: int, block_size: int, truncate: Truncate | None, multiple: int | None = None) -> int:
    """Return the width of a batch: ``block_size``, at most ``block_size``, or that of the longest row.

    The last two are rounded up to ``multiple``. Empty batches are padded to width 1, the least a network accepts.
    """
    if truncate == "block":
        return block_size
    wide = rounded_up(max(1, longest), multiple)
    return min(wide, block_size) if truncate == "max" else wide


def rounded_up(width: int, multiple: int | None) -> int:
    """Round ``width`` up to a multiple of ``multiple``, if there is one."""
    return width if multiple is None else -(-width // multiple) * multiple


def frame(rows: Ragged, width: int | None, before: Sequence[int] = (), after: Sequence[int] = ()) -> list[np.ndarray]:
    """Put ``before`` and ``after`` around every row, truncating the end of a row that would exceed ``width``."""
    room = None if width is None else width - len(before) - len(after)
    if not before and not after:
        return [row[:room] for row in rows]
    head, tail = np.asarray(before, dtype=np.int64), np.asarray(after, dtype=np.int64)
    return [np.concatenate([head, row[:room], tail]) for row in rows]


def keep_end(rows: Ragged, rooms: Sequence[int]) -> list[np.ndarray]:
    """Return the last ``rooms[b]`` tokens of each row: truncation on the left."""
    return [row[max(0, len(row) - room) :] for row, room in zip(rows, rooms, strict=True)]


def pad(
    rows: Ragged, width: int, pad_id: int, left: bool = False
) -> tuple[Int[Tensor, "batch width"], Bool[Tensor, "batch width"]]:
    """Stack rows of at most ``width`` tokens.

    Args:
        rows: ``B`` arrays, or one matrix.
        width: width of the batch.
        pad_id: id of the padding.
        left: pad before the tokens instead of after them.

    Returns:
        ids int64 ``[B, width]`` and the mask of real tokens, bool ``[B, width]``.
    """
    if isinstance(rows, np.ndarray) and rows.shape[1] == width:
        return torch.from_numpy(rows), torch.from_numpy(np.ones(rows.shape, dtype=bool))
    lengths = np.array([len(row) for row in rows])
    assert len(lengths) == 0 or lengths.max() <= width, "rows are truncated before they are padded"
    columns = np.arange(width)
    mask = columns >= width - lengths[:, None] if left else columns < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows) if len(rows) else []
    return torch.from_numpy(ids), torch.from_numpy(mask)
