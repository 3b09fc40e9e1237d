"""Sudoku of 4 × 4, 6 × 6 and 9 × 9 cells as rows of puzzle and solution; blanks of a puzzle are 0."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.data.corpus.text_stream import Input, open_text
from unmask.tasks.catalogue import row_draw, small_config
from unmask.tasks.sudoku_solver import SudokuSolver, solver


@dataclass(frozen=True)
class SudokuTask:
    """Puzzles with a unique solution.

    Attributes:
        height, width: cells of a box.
        clues: clues of a generated puzzle; None = none is redundant (the hardest; 9 × 9 keeps about 24).
    """

    height: int = 3
    width: int = 3
    clues: int | None = None

    @property
    def rules(self) -> SudokuSolver:
        """The rules of this size."""
        return solver(self.height, self.width)

    @property
    def config(self) -> dict[str, Any]:
        """Recommended sections of the config."""
        cells = (self.height * self.width) ** 2
        base = small_config(cells + 1, kind="learned_positions", local_init_layers=0)
        base["data"] |= {"augment": "sudoku"}
        base["objective"] = {"selection": "bernoulli", "weighting": "flat"}
        return base

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return puzzles number ``0 .. count - 1`` of a seed."""
        rows = []
        for number in range(count):
            draw = row_draw(f"sudoku {self.height} {self.width}", seed, number)
            grid = self.rules.grid(draw)
            rows.append({"puzzle": self.rules.puzzle(grid, self.clues, draw), "solution": grid})
        return rows

    def read(self, path: Path) -> list[dict[str, str]]:
        """Return the puzzles of a CSV table with the columns ``puzzle`` and ``solution``.

        Raises:
            ValueError: a column is missing, or a row has another size.
        """
        cells = (self.height * self.width) ** 2
        with open_text(Input.of(path)) as file:
            table = csv.DictReader(file)
            if not {"puzzle", "solution"} <= set(table.fieldnames or ()):
                raise ValueError(
                    f"{path} has the columns {', '.join(table.fieldnames or ())}, and puzzle and solution are needed."
                )
            rows = [{"puzzle": row["puzzle"], "solution": row["solution"]} for row in table]
        if any(len(row["puzzle"]) != cells or len(row["solution"]) != cells for row in rows):
            raise ValueError(
                f"{path} holds puzzles of other sizes than {cells} cells: choose sudoku4, sudoku6 or sudoku9."
            )
        return rows

    def is_valid(self, row: Mapping[str, str], answer: str) -> bool:
        """Tell whether an answer keeps clues and rules."""
        kept = all(
            clue == cell for clue, cell in zip(row["puzzle"], answer, strict=False) if clue.isdigit() and clue != "0"
        )
        return kept and self.rules.is_valid(answer)

    def group(self, row: Mapping[str, str]) -> str:
        """Return whether single candidates solve the puzzle, or guesses are needed."""
        return "needs guesses" if self.rules.needs_guesses(row["puzzle"]) else "singles"


SUDOKU_4, SUDOKU_6, SUDOKU_9 = SudokuTask(2, 2), SudokuTask(2, 3), SudokuTask(3, 3)
