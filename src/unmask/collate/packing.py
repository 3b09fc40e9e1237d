"""Best-fit packing of documents into rows of one length, in one pass and bounded memory.

Open rows are indexed by their free space. A document is added to the open row with the least sufficient free space, or
opens a new row. A document longer than a row is cut into full rows and a remainder. When too many rows are open, the
fullest is emitted. Free space is filled with PAD, which costs compute without a training signal; ``Packer.efficiency``
measures it. Cutting documents less often improves quality (Ding et al. 2024, arXiv:2404.10830).
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
        open_rows: maximum number of open rows. Memory is ``open_rows * block_size`` tokens; more open rows pack
            tighter.

    Attributes:
        rows, tokens: numbers of rows and real tokens emitted so far.
        cut: number of documents longer than a row, which were cut.

    Raises:
        ValueError: ``block_size`` or ``open_rows`` is below 1.

    Examples:
        >>> from unmask import Packer
        >>> packer = Packer(block_size=5, pad_id=0)
        >>> row, = packer.pack([[7, 8], [9, 9]])
        >>> row["input_ids"].tolist(), row["segment_ids"].tolist()
        ([7, 8, 9, 9, 0], [0, 0, 1, 1, 2])
        >>> packer.efficiency
        0.8
    """

    rows: int
    tokens: int
    cut: int

    def __init__(self, block_size: int, pad_id: int, open_rows: int = 512) -> None:
        if block_size < 1 or open_rows < 1:
            raise ValueError(
                f"block_size={block_size} and open_rows={open_rows} must both be at least 1: tokens per row, and open "
                "rows."
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
            ``{"input_ids", "segment_ids"}``, int64 ``[block_size]`` each. ``segment_ids`` number the documents of a row
            from 0; PAD at the end has the next number.
        """
        pending: dict[int, np.ndarray] = {}

        def lengths() -> Iterator[int]:
            number = 0
            for document in documents:
                tokens = np.asarray(document, dtype=np.int64)
                self.cut += len(tokens) > self.block_size
                for start in range(0, len(tokens), self.block_size):
                    pending[number] = tokens[start : start + self.block_size]
                    yield len(pending[number])
                    number += 1

        for row in best_fit(lengths(), self.block_size, self.open_rows):
            yield self._finish([pending.pop(number) for number in row])

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


def best_fit(lengths: Iterable[int], block_size: int, open_rows: int = 512) -> Iterator[list[int]]:
    """Assign items of given lengths to rows: each goes into the open row with the least free space that holds it.

    Args:
        lengths: 1 to ``block_size`` each.
        block_size: capacity of a row.
        open_rows: maximum number of open rows; when more are open, the fullest is emitted.

    Yields:
        The numbers of the items of each row, in the order of arrival.

    Examples:
        >>> list(best_fit([3, 4, 2, 1], block_size=5))
        [[0, 2], [1, 3]]
    """
    by_room: list[list[list[int]]] = [[] for _ in range(block_size + 1)]
    rooms = 0  # bit r is set while an open row has r free positions, so the best fit is one shift
    opened = 0
    for number, length in enumerate(lengths):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            rooms &= ~(0 if by_room[room] else 1 << room)
        else:
            room, row = block_size, []
            opened += 1
        row.append(number)
        room -= length
        by_room[room].append(row)
        rooms |= 1 << room
        if room == 0 or opened > open_rows:
            fullest = (rooms & -rooms).bit_length() - 1
            yield by_room[fullest].pop()
            rooms &= ~(0 if by_room[fullest] else 1 << fullest)
            opened -= 1
    for rest in by_room:
        yield from rest
