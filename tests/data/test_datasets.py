"""Windows of a fixed length: exactly so long, anywhere, the same with any workers, and never the mask."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from unmask import MaskedTokenDataset
from unmask.data.store_writer import write_store
from unmask.data.token_array import TokenArray


def rows_of(dataset, **loader):
    return torch.cat(list(DataLoader(dataset, batch_size=5, **loader)))


def test_a_row_is_a_window_of_the_data_and_there_are_as_many_as_tile_it():
    data = torch.arange(1003)
    dataset = MaskedTokenDataset(data, 17)
    assert len(dataset) == 1003 // 17
    for i in range(len(dataset)):
        row = dataset[i]
        assert row.dtype == torch.int64 and torch.equal(row, torch.arange(17) + int(row[0]))
    with pytest.raises(IndexError, match="rows 0 to 58"):
        dataset[59]


def test_every_place_is_equally_likely_and_every_token_can_appear():
    length, tokens = 4, 12
    dataset = MaskedTokenDataset(torch.arange(tokens), length)
    counts = torch.zeros(tokens - length + 1)
    for epoch in range(3000):
        dataset.set_epoch(epoch)
        for i in range(len(dataset)):
            counts[dataset.start(i)] += 1
    expected = counts.sum() / len(counts)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 8 + 5 * (2 * 8) ** 0.5, counts  # chi-square with 8 degrees of freedom


def test_data_of_one_window_have_one_row():
    dataset = MaskedTokenDataset(torch.arange(9), 9)
    assert len(dataset) == 1 and torch.equal(dataset[0], torch.arange(9))


def test_sequential_windows_lie_end_to_end_in_every_epoch():
    dataset = MaskedTokenDataset(torch.arange(30), 7, sequential=True)
    dataset.set_epoch(3)
    assert torch.equal(rows_of(dataset), torch.arange(28).view(4, 7))


def test_epochs_and_seeds_move_the_windows_and_nothing_else_does():
    data = torch.arange(5000)
    first, again, other = MaskedTokenDataset(data, 10), MaskedTokenDataset(data, 10), MaskedTokenDataset(data, 10, seed=1)
    assert torch.equal(rows_of(first), rows_of(again)) and not torch.equal(rows_of(first), rows_of(other))
    again.set_epoch(1)
    assert not torch.equal(rows_of(first), rows_of(again))
    assert torch.equal(torch.stack([first[i] for i in reversed(range(len(first)))]).flip(0), rows_of(first))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing_and_hear_of_the_next_epoch(persistent):
    data = torch.arange(400)
    alone, shared = MaskedTokenDataset(data, 10), MaskedTokenDataset(data, 10)
    loader = DataLoader(shared, batch_size=5, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        assert torch.equal(torch.cat(list(loader)), rows_of(alone))


def test_tensors_memory_maps_and_arrays_are_read_alike(tmp_path):
    tokens = np.arange(300, dtype=np.uint16) % 50
    tokens.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=np.uint16, mode="r")
    expected = rows_of(MaskedTokenDataset(torch.from_numpy(tokens.astype(np.int64)), 16, mask_id=50))
    for data in (mapped, tokens, TokenArray(tokens)):
        assert torch.equal(rows_of(MaskedTokenDataset(data, 16, mask_id=50)), expected)


def test_a_store_is_read_across_its_shards(tmp_path, documents, tokenizer):
    store = write_store(tmp_path / "store", iter(documents), tokenizer, source="s", shard_tokens=700)
    assert len(store.manifest["shards"]) > 3
    flat = MaskedTokenDataset(store.read(0, store.n_tokens), 600)
    assert torch.equal(rows_of(MaskedTokenDataset(store, 600, mask_id=tokenizer.mask_token_id)), rows_of(flat))


def test_rows_may_say_who_they_are():
    dataset = MaskedTokenDataset(torch.arange(40), 10, identified=True)
    dataset.set_epoch(2)
    row = dataset[3]
    assert row["example_id"] == 3 and row["epoch"] == 2 and torch.equal(row["input_ids"], torch.arange(10) + dataset.start(3))


def test_the_mask_in_the_data_is_refused(monkeypatch):
    data = torch.arange(100)
    with pytest.raises(ValueError, match="Token 42 of the data is 42, which is mask_id"):
        MaskedTokenDataset(data, 10, mask_id=42)
    monkeypatch.setattr("unmask.data.datasets._MOST_SCANNED", 10)
    dataset = MaskedTokenDataset(data, 10, mask_id=42, sequential=True)
    dataset[3]
    with pytest.raises(ValueError, match="Token 42 of the data"):
        dataset[4]


@pytest.mark.parametrize("data", [torch.rand(10), torch.arange(12).view(3, 4), torch.arange(3)])
def test_what_is_no_row_of_tokens_is_refused(data):
    with pytest.raises(ValueError, match=r"flat row of integers|at least one row"):
        MaskedTokenDataset(data, 4)


def test_an_array_has_the_windows_of_a_store():
    array = TokenArray(torch.arange(10), pad=99)
    assert array.windows(4) == 3
    assert array.gather_windows([2, 0], 4).tolist() == [[8, 9, 99, 99], [0, 1, 2, 3]]
