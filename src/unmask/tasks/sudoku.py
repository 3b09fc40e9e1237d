"""Sudoku small enough for enumeration: all grids, all solutions of a puzzle, and puzzles with a unique solution.

Up to the names of their digits, there are 12 grids of 4 × 4 and 39,168 of 6 × 6: the *patterns*, whose first row is
0, 1, 2, … Every grid is a pattern with renamed digits. All 288 and 28,200,960 grids are equally likely if pattern and
renaming are drawn evenly, and the solutions of a puzzle follow from a scan of the patterns, without search.

Grid, puzzle and renaming number ``i`` are pure functions of ``(seed, i)``. Shapes: cells in reading order, int64
``[N, cells]``, digits ``0 .. side - 1``; a blank cell of a puzzle is ``side``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.randomness import fold, row_keys, uniform

_PATTERN, _NAMES, _CLUES = 1, 2, 3  # independent streams of a grid's key
_AT_ONCE = 1 << 12  # unfinished grids per batch
_LARGEST_SIDE = 6  # 9 × 9 has 1.8e16 patterns


@dataclass(frozen=True)
class Sudoku:
    """The rules of one size: every row, column and box contains every digit once.

    Attributes:
        height, width: cells of a box; a grid has ``height * width`` digits, rows and columns.

    Raises:
        ValueError: a box of one row or column, or a size with too many grids to enumerate.
    """

    height: int = 2
    width: int = 3

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 2 or self.side > _LARGEST_SIDE:
            raise ValueError(
                f"Boxes of {self.height} × {self.width} cells form grids of {self.side} × {self.side}, and only grids of 4 × 4 (boxes of 2 × 2) "
                "and 6 × 6 (2 × 3 or 3 × 2) can be enumerated. Choose one of these."
            )

    @property
    def side(self) -> int:
        """Number of digits, rows and columns."""
        return self.height * self.width

    @property
    def cells(self) -> int:
        """Number of cells of a grid."""
        return self.side**2

    @property
    def places(self) -> tuple[Int[Tensor, " cells"], Int[Tensor, " cells"], Int[Tensor, " cells"]]:
        """Row, column and box of each cell, from 0."""
        row, column = (
            torch.arange(self.cells).div(self.side, rounding_mode="floor"),
            torch.arange(self.cells) % self.side,
        )
        boxes_in_a_row = self.side // self.width
        box = row.div(self.height, rounding_mode="floor") * boxes_in_a_row + column.div(
            self.width, rounding_mode="floor"
        )
        return row, column, box

    @cached_property
    def patterns(self) -> NDArray[np.int8]:
        """All grids whose first row is 0, 1, 2, …, ``[patterns, cells]``, in lexicographic order."""
        rows = np.array(list(permutations(range(self.side))), dtype=np.int8)
        bits = 1 << rows.astype(np.int64)
        boxed = bits.reshape(len(rows), -1, self.width).sum(-1)
        grids = rows[:1]
        for number in range(1, self.side):
            first_of_band = number - number % self.height
            used = 1 << grids.reshape(len(grids), number, self.side).astype(np.int64)
            in_column = used.sum(1)
            in_box = used[:, first_of_band:].sum(1).reshape(len(grids), -1, self.width).sum(-1)
            longer = []
            for start in range(0, len(grids), _AT_ONCE):
                some = slice(start, start + _AT_ONCE)
                fits = np.ones((len(grids[some]), len(rows)), dtype=bool)
                for taken, given in ((in_column[some], bits), (in_box[some], boxed)):
                    for at in range(given.shape[1]):
                        fits &= (taken[:, at, None] & given[None, :, at]) == 0
                grid, row = fits.nonzero()
                longer.append(np.concatenate([grids[some][grid], rows[row]], 1))
            grids = np.concatenate(longer)
        return grids

    @cached_property
    def _columns(self) -> NDArray[np.int8]:
        return np.ascontiguousarray(self.patterns.T)

    @property
    def count(self) -> int:
        """Number of grids."""
        return len(self.patterns) * math.factorial(self.side)

    def split(self, held_out: float, seed: int = 0) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Split the patterns in two, the second part with a fraction ``held_out`` (rounded up).

        No grid of one part is a grid of the other with renamed digits.
        """
        order = uniform(row_keys(seed, _PATTERN, torch.arange(len(self.patterns)))).argsort().numpy()
        kept = math.ceil(held_out * len(order))
        return self.patterns[order[kept:]], self.patterns[order[:kept]]

    def grids(self, count: int, seed: int = 0, patterns: NDArray[np.int8] | None = None) -> Int[Tensor, "count cells"]:
        """Return grids number ``0 .. count - 1`` of a seed, each pattern and each renaming equally likely.

        Args:
            count, seed: as above.
            patterns: those to draw from; None = all.
        """
        patterns = self.patterns if patterns is None else patterns
        keys = row_keys(seed, 0, torch.arange(count))
        chosen = (uniform(fold(keys, _PATTERN)) * len(patterns)).long()
        digits = torch.arange(self.side).expand(count, self.side)
        names = uniform(fold(fold(keys, _NAMES)[:, None].expand_as(digits), digits)).argsort(-1)
        return names.gather(-1, torch.from_numpy(patterns[chosen.numpy()]).long())

    def valid(self, grids: Int[Tensor, "count cells"]) -> Bool[Tensor, " count"]:
        """Return whether every row, column and box contains every digit once."""
        known = ((grids >= 0) & (grids < self.side)).all(-1)
        seen = torch.zeros(len(grids), 3, self.side, self.side, dtype=torch.bool)
        which = torch.arange(len(grids))[:, None]
        for kind, place in enumerate(self.places):
            seen[which, kind, place, grids.clamp(0, self.side - 1)] = True
        return known & seen.flatten(1).all(-1)

    def solutions(self, puzzle: Int[Tensor, " cells"]) -> Int[Tensor, "solutions cells"]:
        """Return all grids that agree with the cells that are not blank."""
        given = (puzzle != self.side).nonzero()[:, 0].tolist()
        matching, first = self._matching([(cell, int(puzzle[cell])) for cell in given])
        absent = [digit for digit in range(self.side) if digit not in first]
        solved = []
        for pattern in self.patterns[matching].astype(np.int64):
            known = {int(pattern[cell]): digit for digit, cell in first.items()}
            free = [name for name in range(self.side) if name not in known]
            for renamed in permutations(absent):
                names = known | dict(zip(free, renamed, strict=True))
                solved.append([names[digit] for digit in pattern.tolist()])
        return torch.tensor(solved, dtype=torch.int64).view(-1, self.cells)

    def puzzles(self, grids: Int[Tensor, "count cells"], seed: int = 0) -> Int[Tensor, "count cells"]:
        """Return a puzzle of each grid with a unique solution and no redundant clue.

        Clues are added in random order until the solution is unique; then each redundant clue is removed.
        """
        puzzles = torch.full_like(grids, self.side)
        cells = torch.arange(self.cells).expand_as(grids)
        keys = row_keys(seed, _CLUES, torch.arange(len(grids)))
        orders = uniform(fold(keys[:, None].expand_as(cells), cells)).argsort(-1).tolist()
        for puzzle, grid, order in zip(puzzles, grids.tolist(), orders, strict=True):
            ordered = [(cell, grid[cell]) for cell in order]
            enough = bisect_left([*range(self.cells)], True, key=partial(self._one_of_first, ordered))
            clues = dict(ordered[:enough])
            for cell, _ in ordered[:enough]:
                digit = clues.pop(cell)
                if not self._one(list(clues.items())):
                    clues[cell] = digit
            puzzle[list(clues)] = torch.tensor(list(clues.values()))
        return puzzles

    def _one_of_first(self, ordered: list[tuple[int, int]], count: int) -> bool:
        return self._one(ordered[:count])

    def _one(self, clues: list[tuple[int, int]]) -> bool:
        """Return whether exactly one grid has these digits in these cells."""
        if len({digit for _, digit in clues}) < self.side - 1:
            return False  # two absent digits are interchangeable
        return len(self._matching(clues)[0]) == 1

    def _matching(self, clues: list[tuple[int, int]]) -> tuple[NDArray[np.int64], dict[int, int]]:
        """Return the patterns with these digits in these cells under some renaming, and the first cell of each
        digit.
        """
        fits, first = np.ones(len(self.patterns), dtype=bool), dict[int, int]()
        for cell, digit in clues:
            if digit in first:
                fits &= self._columns[cell] == self._columns[first[digit]]
            else:
                for other in first.values():
                    fits &= self._columns[cell] != self._columns[other]
                first[digit] = cell
        return np.flatnonzero(fits), first
