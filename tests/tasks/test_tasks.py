"""Every task: rows are a function of the seed, their own answers are exact and valid, and wrong answers are not."""

import math
import random

import numpy as np
import pytest
import torch

from unmask.tasks.catalogue import TASKS, Distribution, Task, answer_of, score_answers, with_settings
from unmask.tasks.sudoku_solver import solver
from unmask.tasks.sudoku_symmetries import SudokuAugmentation

QUICK = [name for name in TASKS if name not in ("sudoku6", "sudoku9", "markov_chain")]


@pytest.mark.parametrize("name", QUICK)
def test_rows_are_their_own_answers_and_wrong_ones_are_seen(name):
    task = TASKS[name]
    rows = task.generate(6, seed=3)
    assert isinstance(task, Task) and rows[:2] == task.generate(2, seed=3) and rows != task.generate(6, seed=4)
    good = score_answers(task, rows, [answer_of(row) for row in rows])
    assert good.exact.value == good.valid.value == 1.0 and 0 < good.exact.low < 1
    wrong = score_answers(task, rows, ["".join(reversed(answer_of(row)))[1:] for row in rows])
    assert wrong.valid.value < 0.5 and wrong.as_dict()["rows"] == 6


def test_a_valid_answer_need_not_be_the_planted_one():
    row = {"prompt": "0-1 1-2=", "answer": "aba"}
    assert TASKS["graph_colouring"].is_valid(row, "abc") and not TASKS["graph_colouring"].is_valid(row, "aab")
    assert TASKS["countdown"].is_valid({"prompt": "2,3,4:24="}, "3*2=6,6*4=24")
    assert not TASKS["countdown"].is_valid({"prompt": "2,3,4:24="}, "3*2=6,6*6=36")
    assert not TASKS["countdown"].is_valid({"prompt": "2,3,4:24="}, "3*2=7,7*4=28")


def test_nine_by_nine_puzzles_have_one_solution_and_lose_it_with_a_clue():
    rules, draw = solver(3, 3), random.Random(5)
    grid = rules.grid(draw)
    puzzle = rules.puzzle(grid, 30, draw)
    assert rules.is_valid(grid) and rules.solve(puzzle) == grid and sum(cell != "0" for cell in puzzle) == 30
    assert rules.solve("0" * 81) is None and rules.solve("11" + "0" * 79) is None
    small = solver(2, 2)
    minimal = small.puzzle(small.grid(draw), None, draw)
    for cell in (n for n, digit in enumerate(minimal) if digit != "0"):
        assert small.solve(f"{minimal[:cell]}0{minimal[cell + 1 :]}") is None


def test_settings_are_named():
    assert with_settings(TASKS["sudoku9"], ["clues=40"]).clues == 40
    with pytest.raises(ValueError, match="clues=…"):
        with_settings(TASKS["sudoku9"], ["clue=40"])


def test_symmetric_copies_are_puzzles_of_their_own():
    rules, digits = solver(2, 3), list(range(5, 11))
    rows = TASKS["sudoku6"].generate(3, seed=0)
    ids = torch.tensor([[int(c) + 4 for c in row["solution"]] + [2] for row in rows])
    flags = torch.tensor([[2 * (c == "0") for c in row["puzzle"]] + [0] for row in rows])
    copies, blanks = SudokuAugmentation(digits)(ids, flags, torch.arange(3) + 11)
    again = SudokuAugmentation(digits)(ids, flags, torch.arange(3) + 11)[0]
    assert torch.equal(copies, again) and (copies[:, -1] == 2).all() and not torch.equal(copies, ids)
    for row, blank in zip(copies[:, :-1].tolist(), blanks.tolist(), strict=True):
        grid = "".join(str(id - 4) for id in row)
        assert rules.is_valid(grid)
        assert rules.solve("".join("0" if b else c for b, c in zip(blank, grid, strict=False))) == grid


def test_the_chain_knows_its_entropy():
    chain = with_settings(TASKS["markov_chain"], ["states=3", "length=40"])
    texts = [row["text"] for row in chain.generate(400, seed=1)]
    assert isinstance(chain, Distribution) and np.allclose(chain.stationary @ chain.transitions, chain.stationary)
    mean = np.mean([chain.nats(text) for text in texts])
    first = -(chain.stationary * np.log(chain.stationary)).sum()
    assert mean == pytest.approx(first + 39 * chain.entropy_rate, rel=0.05)
    assert chain.nats("z") == math.inf
