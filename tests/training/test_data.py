"""Batches are a pure function of the step: of the seed and nothing else."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unmask.data.store.token_array import TokenArray
from unmask.permutation import permute
from unmask.randomness import row_keys
from unmask.training.data import InfiniteSampler, TokenStoreData, WindowDataset


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_permute_is_a_permutation(size):
    key = row_keys(3, 0, torch.tensor([0]))[0]
    assert sorted(permute(torch.arange(size), size, key).tolist()) == list(range(size))


def test_permute_is_uniform_over_positions():
    """Over many keys, element 0 of a permutation of 10 is moved to every position equally often (chi-square, 9 degrees, p > 0.001)."""
    keys = row_keys(0, 0, torch.arange(1500))
    landed = torch.stack([permute(torch.tensor(0), 10, key) for key in keys])
    counts = torch.bincount(landed, minlength=10).double()
    assert ((counts - 150) ** 2 / 150).sum() < 27.9


def take(samples: InfiniteSampler, passes: int) -> np.ndarray:
    return np.concatenate([batch for batch, _ in zip(samples, range(passes), strict=False)])


def test_an_epoch_visits_every_window_once_and_epochs_differ():
    samples = take(InfiniteSampler(windows=30, rows=10, seed=0), 6)
    first, second = samples[:30], samples[30:]
    assert set(first[:, 0]) == {0} and set(second[:, 0]) == {1}
    assert sorted(first[:, 2]) == sorted(second[:, 2]) == list(range(30))
    assert first[:, 2].tolist() != second[:, 2].tolist()
    assert first[:, 1].tolist() == list(range(30))


def test_an_epoch_may_end_inside_a_batch():
    samples = take(InfiniteSampler(windows=7, rows=4, seed=1), 7)
    for epoch in range(4):
        assert sorted(samples[samples[:, 0] == epoch, 2]) == list(range(7))


def test_ranks_and_accumulation_steps_divide_the_same_rows():
    """A step's rows are the same for 1 rank, 2 ranks, or 4 accumulation steps; and a start in the middle is the middle."""
    whole = take(InfiniteSampler(windows=50, rows=8, seed=2), 3)
    parts = [take(InfiniteSampler(windows=50, rows=4, seed=2, rank=r, ranks=2), 3).reshape(3, 4, 3) for r in (0, 1)]
    assert np.array_equal(np.concatenate(parts, axis=1).reshape(-1, 3), whole)
    assert np.array_equal(take(InfiniteSampler(windows=50, rows=2, seed=2), 12), whole)
    assert np.array_equal(take(InfiniteSampler(windows=50, rows=8, seed=2, start=2), 1), whole[16:])


def test_rows_that_do_not_divide_are_refused():
    data = TokenStoreData.__new__(TokenStoreData)
    data.batch_size, data.accumulate = 10, 2
    assert data.rows_per_pass(ranks=1) == 5
    with pytest.raises(ValueError, match="multiple of 4"):
        data.rows_per_pass(ranks=2)


def windows(tokens: int = 100, block: int = 8, samples: int | None = None) -> WindowDataset:
    return WindowDataset(TokenArray(np.arange(tokens)), block, samples)


def test_a_window_holds_its_tokens_and_its_identity():
    """Window ``i`` is tokens ``8 i`` and on; its masks are keyed by window and epoch, its time by its position."""
    rows = windows(samples=40).__getitems__(np.array([[0, 3, 5], [1, 2, 0]]))
    assert rows["input_ids"].tolist() == [[*range(40, 48)], [*range(8)]]
    assert {name: rows[name].tolist() for name in ("example_id", "epoch", "epoch_place")} == {
        "example_id": [5, 0],
        "epoch": [0, 1],
        "epoch_place": [3, 2],
    }
    assert rows["progress"].tolist() == [3 / 40, (13 + 2) / 40]  # 13 windows an epoch
    assert "progress" not in windows().__getitems__(np.array([[0, 3, 5]]))


@pytest.mark.parametrize("ranks, rows", [(1, 4), (2, 2)])
def test_progress_is_the_fraction_of_the_samples_of_a_run(ranks, rows):
    """Progress rises from 0 at the first row to just below 1 at the last, over epochs and for any number of ranks."""
    data = windows(samples=60)
    passes = [
        iter(InfiniteSampler(windows=len(data), rows=rows, seed=1, rank=rank, ranks=ranks)) for rank in range(ranks)
    ]
    found = [data.__getitems__(next(samples))["progress"] for _ in range(15) for samples in passes]
    assert np.allclose(np.concatenate(found), np.arange(60) / 60)


def datamodule(rank: int = 0, ranks: int = 1, step: int = 0, **options) -> TokenStoreData:
    settings = {
        "block_size": 8,
        "batch_size": 4,
        "accumulate": 1,
        "evaluate_rows": 5,
        "steps": 10,
        "seed": 3,
        **options,
    }
    data = TokenStoreData(
        TokenArray(np.arange(100)),
        TokenArray(np.arange(1000, 1170)),
        collate=lambda c: c,
        collate_valid=lambda c: {**c, "valid": True},
        **settings,
    )
    data.trainer = SimpleNamespace(world_size=ranks, global_rank=rank, global_step=step)
    return data


def test_a_mask_rate_warmup_ends_with_the_run_and_resumes():
    batches = list(islice(datamodule().train_dataloader(), 10))
    assert np.allclose(np.concatenate([batch["progress"] for batch in batches]), np.arange(40) / 40)
    (resumed,) = islice(datamodule(step=7).train_dataloader(), 1)
    assert all(np.array_equal(resumed[name], batches[7][name]) for name in resumed)
    parts = [list(islice(datamodule(rank, 2, step=7, accumulate=2).train_dataloader(), 2)) for rank in (0, 1)]
    windows_of_step = [part[number]["example_id"] for number in (0, 1) for part in parts]  # two passes of two ranks
    assert np.array_equal(np.concatenate(windows_of_step), batches[7]["example_id"])
    assert not np.array_equal(next(iter(datamodule(seed=4).train_dataloader()))["example_id"], batches[0]["example_id"])
    assert "valid" not in resumed


def test_validation_uses_the_same_evenly_spread_windows_every_time():
    """Ranks divide the windows without overlap; the rows have no progress, so the mask rate is fixed."""
    whole = list(datamodule().val_dataloader())
    assert [len(batch["example_id"]) for batch in whole] == [4, 1] and "progress" not in whole[0] and whole[0]["valid"]
    assert np.concatenate(
        [batch["example_id"] for batch in datamodule(evaluate_rows=99).val_dataloader()]
    ).tolist() == [*range(22)]
    chosen = np.concatenate([batch["example_id"] for batch in whole])
    assert chosen.tolist() == [0, 5, 10, 16, 21]  # of 22 windows
    assert whole[0]["input_ids"][1].tolist() == [*range(1040, 1048)] and set(whole[0]["epoch"]) == {0}
    assert np.concatenate([batch["epoch_place"] for batch in whole]).tolist() == [0, 1, 2, 3, 4]
    shared = [np.concatenate([b["example_id"] for b in datamodule(rank, 2).val_dataloader()]) for rank in (0, 1)]
    assert sorted(np.concatenate(shared)) == sorted(chosen)
    later = list(datamodule(step=7).val_dataloader())
    assert all(np.array_equal(later[0][name], whole[0][name]) for name in whole[0])
    with pytest.raises(ValueError, match=r"data\.valid_fraction"):
        datamodule(ranks=7, batch_size=7).val_dataloader()
