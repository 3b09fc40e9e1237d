"""Batches are a pure function of the step: of the seed and nothing else."""

import numpy as np
import pytest
import torch

from unmask.permutation import permute
from unmask.randomness import row_keys
from unmask.train.data import EndlessDraws, TokenStoreData


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_permute_is_a_permutation(size):
    key = row_keys(3, 0, torch.tensor([0]))[0]
    assert sorted(permute(torch.arange(size), size, key).tolist()) == list(range(size))


def test_permute_has_no_favourite_place():
    """Over many keys, element 0 of a permutation of 10 lands everywhere equally often (chi-square, 9 degrees, p > 0.001)."""
    keys = row_keys(0, 0, torch.arange(1500))
    landed = torch.stack([permute(torch.tensor(0), 10, key) for key in keys])
    counts = torch.bincount(landed, minlength=10).double()
    assert ((counts - 150) ** 2 / 150).sum() < 27.9


def take(draws: EndlessDraws, passes: int) -> np.ndarray:
    return np.concatenate([batch for batch, _ in zip(draws, range(passes), strict=False)])


def test_an_epoch_visits_every_window_once_and_epochs_differ():
    draws = take(EndlessDraws(windows=30, rows=10, seed=0), 6)
    first, second = draws[:30], draws[30:]
    assert set(first[:, 0]) == {0} and set(second[:, 0]) == {1}
    assert sorted(first[:, 2]) == sorted(second[:, 2]) == list(range(30))
    assert first[:, 2].tolist() != second[:, 2].tolist()
    assert first[:, 1].tolist() == list(range(30))


def test_an_epoch_may_end_inside_a_batch():
    draws = take(EndlessDraws(windows=7, rows=4, seed=1), 7)
    for epoch in range(4):
        assert sorted(draws[draws[:, 0] == epoch, 2]) == list(range(7))


def test_ranks_and_accumulation_cut_the_same_rows():
    """A step's rows are the same for 1 rank, 2 ranks, or 4 accumulation steps; and a start in the middle is the middle."""
    whole = take(EndlessDraws(windows=50, rows=8, seed=2), 3)
    parts = [take(EndlessDraws(windows=50, rows=4, seed=2, rank=r, ranks=2), 3).reshape(3, 4, 3) for r in (0, 1)]
    assert np.array_equal(np.concatenate(parts, axis=1).reshape(-1, 3), whole)
    assert np.array_equal(take(EndlessDraws(windows=50, rows=2, seed=2), 12), whole)
    assert np.array_equal(take(EndlessDraws(windows=50, rows=8, seed=2, start=2), 1), whole[16:])


def test_rows_that_do_not_divide_are_refused():
    data = TokenStoreData.__new__(TokenStoreData)
    data.batch_size, data.accumulate = 10, 2
    assert data.rows_per_pass(ranks=1) == 5
    with pytest.raises(ValueError, match="multiple of 4"):
        data.rows_per_pass(ranks=2)
