"""Best-fit packing of documents into rows of one length, in one pass and bounded memory.

Open rows are indexed by their free space. A document is added to the open row with the least sufficient free space, or opens
a new row. A document longer than a row is cut into full rows and a remainder. When too many rows are open, the fullest is
emitted. Free space is filled with PAD, which costs compute without a training signal; ``Packer.efficiency`` measures it.
Cutting documents less often improves quality (Ding et al. 2024, arXiv:2404.10830).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


class Packer:
    """Pack a stream of documents into rows of exactly ``block_size`` tokens.

    Args:
        block_size: tokens per row.
        pad_id: id that fills the free space.
        open_rows: maximum number of open rows. Memory is ``open_rows * block_size`` tokens; more open rows pack tighter.

    Attributes:
        rows, tokens: numbers of rows and real tokens emitted so far.
        cut: number of documents longer than a row, which were cut.

    Raises:
        ValueError: ``block_size`` or ``open_rows`` is below 1.

    Example:
        >>> from unmask import Packer
        >>> packer = Packer(block_size=5, pad_id=0)
        >>> row, = packer.pack([[7, 8], [9, 9]])
        >>> row["input_ids"].tolist(), row["segment_ids"].tolist()
        ([7, 8, 9, 9, 0], [0, 0, 1, 1, 2])
        >>> packer.efficiency
        0.8
    """

    def __init__(self, block_size: int, pad_id: int, open_rows: int = 512) -> None:
        if block_size < 1 or open_rows < 1:
            raise ValueError(
                f"block_size={block_size} and open_rows={open_rows} must both be at least 1: tokens per row, and open rows."
            )
        self.block_size = block_size
        self.pad_id = pad_id
        self.open_rows = open_rows
        self.rows = 0
        self.tokens = 0
        self.cut = 0

    @property
    def efficiency(self) -> float:
        """The fraction of positions in emitted rows that hold real tokens; 1 before the first row."""
        return self.tokens / (self.rows * self.block_size) if self.rows else 1.0

    def pack(self, documents: Iterable[Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield rows that together hold every token of every document once; empty documents are skipped.

        Args:
            documents: sequences of token ids.

        Yields:
            ``{"input_ids", "segment_ids"}``, int64 ``[block_size]`` each. ``segment_ids`` number the documents of a row from
            0; PAD at the end has the next number.
        """
        by_room: list[list[list[np.ndarray]]] = [[] for _ in range(self.block_size + 1)]
        rooms = 0  # bit r is set while an open row has r free positions, so the best fit is one shift
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
