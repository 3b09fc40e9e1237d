"""Grids keep the rules and are drawn evenly, puzzles have one solution, and looking through patterns finds what a search finds."""

from itertools import islice

import pytest
import torch

from tests.naive.decoding import chi_square
from tests.naive.sudoku import solve
from unmask.tasks.sudoku import Sudoku

SMALL, SIX = Sudoku(2, 2), Sudoku(2, 3)


@pytest.mark.parametrize(("sudoku", "count"), [(SMALL, 288), (SIX, 28_200_960), (Sudoku(3, 2), 28_200_960)], ids=str)
def test_all_grids_are_counted_and_keep_the_rules(sudoku, count):
    patterns = torch.from_numpy(sudoku.patterns).long()
    assert sudoku.count == count
    assert sudoku.valid(patterns).all() and len(patterns.unique(dim=0)) == len(patterns)
    assert (patterns[:, : sudoku.side] == torch.arange(sudoku.side)).all()


def test_each_rule_is_seen_broken():
    whole = SIX.grids(1, seed=3)[0].view(6, 6)
    broken = {
        "row": torch.cat([whole[:, :3], whole[:, :3]], 1),
        "column": whole[[0, 1, 0, 1, 0, 1]],
        "box": whole[[0, 2, 1, 3, 4, 5]],  # rows and columns still hold every digit
        "digit": whole + 1,
        "blank": whole.masked_fill(whole == 0, 6),
        "negative": whole.masked_fill(whole == 0, -6),
    }
    assert SIX.valid(whole.reshape(1, -1)).all()
    for grid in broken.values():
        assert not SIX.valid(grid.reshape(1, -1)).any()
    assert SIX.valid(torch.stack([whole, broken["box"], whole]).flatten(1)).tolist() == [True, False, True]


def test_every_grid_is_drawn_as_often_as_any_other():
    count = 288 * 40
    drawn = SMALL.grids(count, seed=5)
    assert SMALL.valid(drawn).all()
    _, often = drawn.unique(dim=0, return_counts=True)
    assert len(often) == 288
    assert chi_square(often, torch.full((288,), 1 / 288)) < 4
    assert torch.equal(SMALL.grids(7, seed=5), drawn[:7]) and not torch.equal(SMALL.grids(7, seed=6), drawn[:7])


def test_six_by_six_grids_are_valid_and_their_own():
    drawn = SIX.grids(2000)
    assert SIX.valid(drawn).all() and len(drawn.unique(dim=0)) == 2000
    for cell in (0, 35):
        assert chi_square(torch.bincount(drawn[:, cell], minlength=6), torch.full((6,), 1 / 6)) < 4


def test_the_two_parts_have_no_common_grid_under_any_renaming():
    learnt, kept = SIX.split(0.1)
    assert len(kept) == 3917 and len(learnt) + len(kept) == len(SIX.patterns)

    def patterns(grids):  # renamed so that the first row is 0, 1, 2, …
        return {tuple(grid[:6].argsort()[grid].tolist()) for grid in grids}

    a, b = patterns(SIX.grids(3000, 0, learnt)), patterns(SIX.grids(3000, 0, kept))
    assert len(a) > 2000 and len(b) > 1000 and not a & b
    assert len(SMALL.split(0.1)[1]) == 2 and not (SIX.split(0.1, seed=1)[1] == kept).all()


@pytest.mark.parametrize(("sudoku", "count"), [(SMALL, 40), (SIX, 12)], ids=["4x4", "6x6"])
def test_a_puzzle_has_one_solution_and_needs_every_clue(sudoku, count):
    grids = sudoku.grids(count, seed=1)
    puzzles = sudoku.puzzles(grids, seed=2)
    for puzzle, grid in zip(puzzles, grids, strict=True):
        given = puzzle != sudoku.side
        assert torch.equal(puzzle[given], grid[given])
        assert list(solve(puzzle.tolist(), sudoku.height, sudoku.width)) == [grid.tolist()]
        assert torch.equal(sudoku.solutions(puzzle), grid[None])
        for clue in given.nonzero()[:, 0]:
            fewer = puzzle.clone()
            fewer[clue] = sudoku.side
            assert len(list(islice(solve(fewer.tolist(), sudoku.height, sudoku.width), 2))) == 2
    assert torch.equal(sudoku.puzzles(grids[:3], seed=2), puzzles[:3])
    assert not torch.equal(sudoku.puzzles(grids, seed=3), puzzles)


def test_the_solutions_are_those_of_a_search():
    assert len(SMALL.solutions(torch.full((16,), 4)).unique(dim=0)) == 288
    generator = torch.Generator().manual_seed(0)
    several = 0
    for sudoku, clues in ((SMALL, 3), (SMALL, 4), (SIX, 13), (SIX, 14)):
        for grid in sudoku.grids(4, seed=clues):
            shown = torch.randperm(sudoku.cells, generator=generator)[:clues]
            puzzle = torch.full_like(grid, sudoku.side).index_copy(0, shown, grid[shown])
            found = sudoku.solutions(puzzle)
            assert sudoku.valid(found).all() and (found[:, shown] == grid[shown]).all()
            assert {tuple(s.tolist()) for s in found} == {
                tuple(s) for s in solve(puzzle.tolist(), sudoku.height, sudoku.width)
            }
            several += len(found) > 1
    assert several > 8
    none = torch.full((16,), 4)
    none[:2] = 1
    assert SMALL.solutions(none).shape == (0, 16)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (1, 4), (2, 4)])
def test_sizes_that_cannot_be_enumerated_raise(height, width):
    with pytest.raises(ValueError, match="can be enumerated"):
        Sudoku(height, width)
