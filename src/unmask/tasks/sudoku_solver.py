"""Solve and make sudoku of any size by constraint propagation and search (after Norvig, "Solving every sudoku puzzle").

Cells hold sets of candidate digits as bits. A digit that is placed leaves the candidates of its row, column and box; a
cell with one candidate, and a digit with one cell in a unit, are placed. Search branches at a cell with fewest candidates.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property, lru_cache

DIGITS = "123456789"


@dataclass(frozen=True)
class SudokuSolver:
    """The rules of one size.

    Attributes:
        height, width: cells of a box; a grid has ``height * width`` digits, at most nine.

    Examples:
        >>> SudokuSolver(2, 2).solve("1.....2...3.4...")[:4]
        '1234'
    """

    height: int
    width: int

    @property
    def side(self) -> int:
        """Number of digits, rows and columns."""
        return self.height * self.width

    @cached_property
    def units(self) -> list[list[int]]:
        """The cells of every row, column and box."""
        side, cells = self.side, range(self.side**2)
        boxes = [c // side // self.height * side + c % side // self.width for c in cells]
        keys = ([c // side for c in cells], [c % side for c in cells], boxes)
        return [[c for c in cells if key[c] == value] for key in keys for value in sorted(set(key))]

    @cached_property
    def _units_of(self) -> list[list[list[int]]]:
        return [[unit for unit in self.units if c in unit] for c in range(self.side**2)]

    @cached_property
    def _peers(self) -> list[list[int]]:
        return [sorted({c for unit in units for c in unit} - {n}) for n, units in enumerate(self._units_of)]

    def candidates(self, puzzle: str) -> list[int] | None:
        """Return the candidates of each cell after propagation of the clues, or None for a contradiction."""
        cells = [(1 << self.side) - 1] * self.side**2
        for cell, digit in enumerate(puzzle):
            if digit in DIGITS and not self._place(cells, cell, 1 << int(digit) - 1):
                return None
        return cells

    def _place(self, cells: list[int], cell: int, digit: int) -> bool:
        if not cells[cell] & digit:
            return False
        others = cells[cell] & ~digit
        while others:
            lowest = others & -others
            if not self._remove(cells, cell, lowest):
                return False
            others &= ~lowest
        return True

    def _remove(self, cells: list[int], cell: int, digit: int) -> bool:
        """Remove a candidate, and propagate: False for a contradiction."""
        left = cells[cell]
        if not left & digit:
            return True
        left &= ~digit
        cells[cell] = left
        if not left:
            return False
        if left & (left - 1) == 0:
            for peer in self._peers[cell]:
                if cells[peer] & left and not self._remove(cells, peer, left):
                    return False
        for unit in self._units_of[cell]:
            places = [c for c in unit if cells[c] & digit]
            if not places or (len(places) == 1 and not self._place(cells, places[0], digit)):
                return False
        return True

    def solutions(self, cells: list[int] | None, limit: int, draw: random.Random | None = None) -> list[list[int]]:
        """Return up to ``limit`` solutions of candidates, as one bit per cell.

        Args:
            cells: of :meth:`candidates`.
            limit: largest number of solutions.
            draw: try the digits in random order; None = ascending.
        """
        if cells is None:
            return []
        open_cells = [(left.bit_count(), c) for c, left in enumerate(cells) if left & (left - 1)]
        if not open_cells:
            return [cells]
        cell = min(open_cells)[1]
        digits = [1 << d for d in range(self.side) if cells[cell] >> d & 1]
        if draw is not None:
            draw.shuffle(digits)
        found: list[list[int]] = []
        for digit in digits:
            tried = cells.copy()
            if self._place(tried, cell, digit):
                found += self.solutions(tried, limit - len(found), draw)
                if len(found) >= limit:
                    break
        return found

    def solve(self, puzzle: str) -> str | None:
        """Return the solution of a puzzle, or None if there is none or more than one.

        Args:
            puzzle: digits in reading order, any other character = blank.
        """
        found = self.solutions(self.candidates(puzzle), 2)
        return _text(found[0]) if len(found) == 1 else None

    def needs_guesses(self, puzzle: str) -> bool:
        """Tell whether single candidates (of cells and of units) do not solve the puzzle."""
        cells = self.candidates(puzzle)
        return cells is None or any(left & (left - 1) for left in cells)

    def is_valid(self, grid: str) -> bool:
        """Tell whether every row, column and box contains every digit once."""
        return len(grid) == self.side**2 and all(
            sorted(grid[c] for c in unit) == list(DIGITS[: self.side]) for unit in self.units
        )

    def grid(self, draw: random.Random) -> str:
        """Return a random solved grid."""
        first = list(DIGITS[: self.side])
        draw.shuffle(first)
        puzzle = "".join(first).ljust(self.side**2, "0")
        return _text(self.solutions(self.candidates(puzzle), 1, draw)[0])

    def puzzle(self, grid: str, clues: int | None, draw: random.Random) -> str:
        """Return a puzzle whose only solution is a grid: clues are removed in random order while the solution is unique.

        Args:
            grid: the solution.
            clues: number of clues to keep, if so few are possible; None = no redundant clue is left.
            draw: source of the order.
        """
        puzzle, order = list(grid), list(range(len(grid)))
        draw.shuffle(order)
        left = len(grid)
        for cell in order:
            if left == clues:
                break
            puzzle[cell] = "0"
            cells = self.candidates("".join(puzzle))
            other = cells is not None and self._remove(cells, cell, 1 << int(grid[cell]) - 1)
            if other and self.solutions(cells, 1):
                puzzle[cell] = grid[cell]
            else:
                left -= 1
        return "".join(puzzle)


@lru_cache
def solver(height: int, width: int) -> SudokuSolver:
    """Return the rules of a size, made once."""
    return SudokuSolver(height, width)


def _text(cells: list[int]) -> str:
    return "".join(DIGITS[left.bit_length() - 1] for left in cells)
