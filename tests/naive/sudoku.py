"""Sudoku by search: try every digit that no row, column or box forbids, in the blank cell that has the fewest."""

from collections.abc import Iterator


def solve(puzzle: list[int], height: int, width: int) -> Iterator[list[int]]:
    """All solutions of a puzzle; ``height * width`` stands for a blank."""
    side = height * width

    def allowed(cell: int) -> list[int]:
        row, column = divmod(cell, side)
        taken = set()
        for other, digit in enumerate(puzzle):
            r, c = divmod(other, side)
            if digit != side and (
                r == row or c == column or (r // height == row // height and c // width == column // width)
            ):
                taken.add(digit)
        return [digit for digit in range(side) if digit not in taken]

    blanks = [cell for cell, digit in enumerate(puzzle) if digit == side]
    if not blanks:
        yield list(puzzle)
        return
    cell = min(blanks, key=lambda at: len(allowed(at)))
    for digit in allowed(cell):
        puzzle[cell] = digit
        yield from solve(puzzle, height, width)
        puzzle[cell] = side
