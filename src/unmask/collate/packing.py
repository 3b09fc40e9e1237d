"""Best-fit packing: documents into rows of one length, whole where they fit, in one pass and bounded memory.

Rows under way are kept by how much room they have left. A document goes into the row with the least room that still holds
it, or starts a new one; a document longer than a row is cut into full rows and a rest. When too many rows are under way the
fullest is finished. What is left free is PAD, which costs compute and teaches nothing: ``Packer.efficiency`` says how much.
(Ding et al. 2024, 2404.10830, on why cutting documents costs quality.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


class Packer:
    """Packs a stream of documents into rows of exactly ``block_size`` tokens.

    Args:
        block_size: tokens per row.
        pad_id: what fills the room that is left.
        open_rows: rows under way at most: memory is ``open_rows * block_size`` tokens, and more rows pack tighter.

    Attributes:
        rows, tokens: finished so far.
        cut: documents that were longer than a row and had to be cut.

    Example:
        >>> packer = Packer(block_size=512, pad_id=0)
        >>> for row in packer.pack(documents):        # {"input_ids": [512], "segment_ids": [512]}
        ...     rows.append(row)
        >>> packer.efficiency
        0.996
    """

    def __init__(self, block_size: int, pad_id: int, open_rows: int = 512) -> None:
        if block_size < 1 or open_rows < 1:
            raise ValueError(
                f"block_size={block_size} and open_rows={open_rows}: a packer needs rows of at least 1 token, and 1 of them."
            )
        self.block_size = block_size
        self.pad_id = pad_id
        self.open_rows = open_rows
        self.rows = 0
        self.tokens = 0
        self.cut = 0

    @property
    def efficiency(self) -> float:
        """Share of the finished rows' slots that hold real tokens; 1 before the first row."""
        return self.tokens / (self.rows * self.block_size) if self.rows else 1.0

    def pack(self, documents: Iterable[Any]) -> Iterator[dict[str, np.ndarray]]:
        """Rows ``{"input_ids", "segment_ids"}``, int64 ``[block_size]`` each; every token of every document, once.

        ``segment_ids`` number a row's documents from 0; PAD at the end has the next number. Empty documents are skipped.
        """
        by_room: list[list[list[np.ndarray]]] = [[] for _ in range(self.block_size + 1)]
        rooms = 0  # bit r is set while some row has room r: finding the best fit is one shift
        under_way = 0
        for document in documents:
            tokens = np.asarray(document, dtype=np.int64)
            self.cut += len(tokens) > self.block_size
            while len(tokens) > self.block_size:
                yield self._finish([tokens[: self.block_size]])
                tokens = tokens[self.block_size :]
            if not len(tokens):
                continue
            fitting = rooms >> len(tokens)
            if fitting:
                room = len(tokens) + (fitting & -fitting).bit_length() - 1
                row = by_room[room].pop()
                rooms &= ~(0 if by_room[room] else 1 << room)
            else:
                room, row = self.block_size, []
                under_way += 1
            row.append(tokens)
            room -= len(tokens)
            by_room[room].append(row)
            rooms |= 1 << room
            if room == 0 or under_way > self.open_rows:
                fullest = (rooms & -rooms).bit_length() - 1
                yield self._finish(by_room[fullest].pop())
                rooms &= ~(0 if by_room[fullest] else 1 << fullest)
                under_way -= 1
        for rest in by_room:
            for row in rest:
                yield self._finish(row)

    def _finish(self, parts: list[np.ndarray]) -> dict[str, np.ndarray]:
        lengths = [len(part) for part in parts]
        used = sum(lengths)
        ids = np.full(self.block_size, self.pad_id, dtype=np.int64)
        ids[:used] = np.concatenate(parts)
        segments = np.full(self.block_size, len(parts), dtype=np.int64)
        segments[:used] = np.repeat(np.arange(len(parts)), lengths)
        self.rows += 1
        self.tokens += used
        return {"input_ids": ids, "segment_ids": segments}
