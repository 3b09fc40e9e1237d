"""Sudoku small enough to be known whole: every grid, every solution of a puzzle, and puzzles that have exactly one.

Grids of 4 × 4 and 6 × 6 are few up to the names of their digits: 12 and 39,168 whose first row is 0, 1, 2, … Every other grid is one
of these *patterns* with its digits renamed, so all 288 and 28,200,960 are drawn with equal chance by drawing a pattern and a renaming,
and the solutions of a puzzle are found by looking through the patterns rather than by search.

Grid, puzzle and renaming number ``i`` are pure functions of ``(seed, i)``. Shapes: cells in reading order, int64 ``[N, cells]``, digits
``0 .. side - 1``; a blank cell of a puzzle holds ``side``.
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

_PATTERN, _NAMES, _CLUES = 1, 2, 3  # what a grid's key is folded with: questions of their own
_AT_ONCE = 1 << 12  # unfinished grids that are looked at together
_MOST = 6  # side; 9 × 9 has 1.8e16 patterns


@dataclass(frozen=True)
class Sudoku:
    """The rules of a size: every row, column and box holds every digit once.

    Attributes:
        height, width: cells of a box; a grid has ``height * width`` digits, rows and columns.

    Raises:
        ValueError: a box of one row or column, or grids too many to be listed.
    """

    height: int = 2
    width: int = 3

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 2 or self.side > _MOST:
            raise ValueError(
                f"Boxes of {self.height} × {self.width} cells make grids of {self.side} × {self.side}, and only those of 4 × 4 (boxes of 2 × 2) and "
                "6 × 6 (2 × 3 or 3 × 2) can be listed whole."
            )

    @property
    def side(self) -> int:
        """Digits, rows and columns."""
        return self.height * self.width

    @property
    def cells(self) -> int:
        """Of a grid."""
        return self.side**2

    @property
    def places(self) -> tuple[Int[Tensor, " cells"], Int[Tensor, " cells"], Int[Tensor, " cells"]]:
        """Row, column and box of each cell, all from 0."""
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
        """All grids whose first row is 0, 1, 2, …, ``[patterns, cells]``, in alphabetical order."""
        rows = np.array(list(permutations(range(self.side))), dtype=np.int8)
        bits = 1 << rows.astype(np.int64)
        boxed = bits.reshape(len(rows), -1, self.width).sum(-1)
        grids = rows[:1]
        for number in range(1, self.side):
            first_of_band = number - number % self.height
            whole = 1 << grids.reshape(len(grids), number, self.side).astype(np.int64)
            in_column = whole.sum(1)
            in_box = whole[:, first_of_band:].sum(1).reshape(len(grids), -1, self.width).sum(-1)
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
        """How many grids there are."""
        return len(self.patterns) * math.factorial(self.side)

    def split(self, held_out: float, seed: int = 0) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """The patterns in two parts, the second with a share ``held_out``, rounded up: no grid of one is a grid of the other renamed."""
        order = uniform(row_keys(seed, _PATTERN, torch.arange(len(self.patterns)))).argsort().numpy()
        kept = math.ceil(held_out * len(order))
        return self.patterns[order[kept:]], self.patterns[order[:kept]]

    def grids(self, count: int, seed: int = 0, patterns: NDArray[np.int8] | None = None) -> Int[Tensor, "count cells"]:
        """Grids number ``0 .. count - 1`` of a seed, each pattern and each renaming equally likely.

        Args:
            patterns: those to draw from; all if None.
        """
        patterns = self.patterns if patterns is None else patterns
        keys = row_keys(seed, 0, torch.arange(count))
        chosen = (uniform(fold(keys, _PATTERN)) * len(patterns)).long()
        digits = torch.arange(self.side).expand(count, self.side)
        names = uniform(fold(fold(keys, _NAMES)[:, None].expand_as(digits), digits)).argsort(-1)
        return names.gather(-1, torch.from_numpy(patterns[chosen.numpy()]).long())

    def valid(self, grids: Int[Tensor, "count cells"]) -> Bool[Tensor, " count"]:
        """Whether every row, column and box holds every digit once."""
        known = ((grids >= 0) & (grids < self.side)).all(-1)
        seen = torch.zeros(len(grids), 3, self.side, self.side, dtype=torch.bool)
        which = torch.arange(len(grids))[:, None]
        for kind, place in enumerate(self.places):
            seen[which, kind, place, grids.clamp(0, self.side - 1)] = True
        return known & seen.flatten(1).all(-1)

    def solutions(self, puzzle: Int[Tensor, " cells"]) -> Int[Tensor, "solutions cells"]:
        """All grids that agree with the cells that are not blank."""
        given = (puzzle != self.side).nonzero()[:, 0].tolist()
        found, first = self._matching([(cell, int(puzzle[cell])) for cell in given])
        absent = [digit for digit in range(self.side) if digit not in first]
        solved = []
        for pattern in self.patterns[found].astype(np.int64):
            known = {int(pattern[cell]): digit for digit, cell in first.items()}
            free = [name for name in range(self.side) if name not in known]
            for renamed in permutations(absent):
                names = known | dict(zip(free, renamed, strict=True))
                solved.append([names[digit] for digit in pattern.tolist()])
        return torch.tensor(solved, dtype=torch.int64).view(-1, self.cells)

    def puzzles(self, grids: Int[Tensor, "count cells"], seed: int = 0) -> Int[Tensor, "count cells"]:
        """A puzzle of each grid that has no other solution, and would have one without any of its clues.

        Cells are told in random order until the grid is the only one left, then those taken back that were not needed.
        """
        puzzles = torch.full_like(grids, self.side)
        cells = torch.arange(self.cells).expand_as(grids)
        keys = row_keys(seed, _CLUES, torch.arange(len(grids)))
        orders = uniform(fold(keys[:, None].expand_as(cells), cells)).argsort(-1).tolist()
        for puzzle, grid, order in zip(puzzles, grids.tolist(), orders, strict=True):
            told = [(cell, grid[cell]) for cell in order]
            enough = bisect_left([*range(self.cells)], True, key=partial(self._one_of_first, told))
            clues = dict(told[:enough])
            for cell, _ in told[:enough]:
                digit = clues.pop(cell)
                if not self._one(list(clues.items())):
                    clues[cell] = digit
            puzzle[list(clues)] = torch.tensor(list(clues.values()))
        return puzzles

    def _one_of_first(self, told: list[tuple[int, int]], count: int) -> bool:
        return self._one(told[:count])

    def _one(self, clues: list[tuple[int, int]]) -> bool:
        """Whether exactly one grid has these digits in these cells."""
        if len({digit for _, digit in clues}) < self.side - 1:
            return False  # the names of two absent digits could be exchanged
        return len(self._matching(clues)[0]) == 1

    def _matching(self, clues: list[tuple[int, int]]) -> tuple[NDArray[np.int64], dict[int, int]]:
        """The patterns that have these digits in these cells under some renaming, and the first of the cells of each digit."""
        fits, first = np.ones(len(self.patterns), dtype=bool), dict[int, int]()
        for cell, digit in clues:
            if digit in first:
                fits &= self._columns[cell] == self._columns[first[digit]]
            else:
                for other in first.values():
                    fits &= self._columns[cell] != self._columns[other]
                first[digit] = cell
        return np.flatnonzero(fits), first
