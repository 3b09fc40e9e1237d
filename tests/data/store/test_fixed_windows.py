"""Fixed-length windows: exact length, any offset, independent of workers, and never with the mask."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from unmask import MaskedTokenDataset
from unmask.data.store.token_array import TokenArray
from unmask.data.store.writer import write_store


def rows_of(dataset, **loader):
    return torch.cat(list(DataLoader(dataset, batch_size=5, **loader)))


def test_rows_are_windows_of_the_data_as_many_as_non_overlapping_ones():
    data = torch.arange(1003)
    dataset = MaskedTokenDataset(data, 17)
    assert len(dataset) == 1003 // 17
    for i in range(len(dataset)):
        row = dataset[i]
        assert row.dtype == torch.int64 and torch.equal(row, torch.arange(17) + int(row[0]))
    with pytest.raises(IndexError, match="rows 0 to 58"):
        dataset[59]


def test_every_offset_is_equally_likely_and_every_token_can_appear():
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


def test_passes_and_seeds_move_the_windows_and_nothing_else_does():
    """Pass ``n`` of a plain loop is epoch ``n``, for any order and any batches."""
    data = torch.arange(5000)
    first, again, other = (
        MaskedTokenDataset(data, 10),
        MaskedTokenDataset(data, 10),
        MaskedTokenDataset(data, 10, seed=1),
    )
    passes = [rows_of(first) for _ in range(3)]
    assert len({int(rows[7, 0]) for rows in passes}) == 3
    assert torch.equal(passes[0], torch.stack([again[i] for i in reversed(range(len(again)))]).flip(0))
    assert torch.equal(passes[1], torch.cat(list(DataLoader(again, batch_size=7)))) and not torch.equal(
        passes[0], rows_of(other)
    )
    again.set_epoch(2)
    assert torch.equal(passes[2], rows_of(again))
    again.set_epoch(0)
    assert torch.equal(passes[0], rows_of(again))


def test_a_plain_loop_covers_all_of_the_data():
    dataset, seen = MaskedTokenDataset(torch.arange(640), 32), torch.zeros(640, dtype=torch.bool)
    loader = DataLoader(dataset, batch_size=5, shuffle=True, drop_last=True)
    for _ in range(60):
        for rows in loader:
            seen[rows.flatten()] = True
    assert bool(seen.all())


@pytest.mark.parametrize("identified", [False, True])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_in_any_pass(workers, persistent, identified):
    data = torch.arange(400)
    alone, shared = (MaskedTokenDataset(data, 10, identified=identified) for _ in range(2))
    loader = DataLoader(shared, batch_size=5, shuffle=True, num_workers=workers, persistent_workers=persistent)

    def one_pass(batches):  # whatever the order of the sampler
        rows = [row for batch in batches for row in (batch["input_ids"] if identified else batch).tolist()]
        ids = [i for batch in batches for i in batch["example_id"].tolist()] if identified else []
        return (
            sorted(rows),
            sorted(ids),
            {e for batch in batches for e in batch["epoch"].tolist()} if identified else set(),
        )

    for epoch in range(3):
        found = one_pass(list(loader))
        assert found == one_pass(list(DataLoader(alone, batch_size=4))) and found[2] == (
            {epoch} if identified else set()
        )
    for dataset in (alone, shared):
        dataset.set_epoch(1)
    assert one_pass(list(loader)) == one_pass(list(DataLoader(alone, batch_size=4)))


def test_a_pickled_dataset_continues_in_spawned_workers():
    shared, alone = (
        pickle.loads(pickle.dumps(MaskedTokenDataset(torch.arange(90), 10))),
        MaskedTokenDataset(torch.arange(90), 10),
    )
    loader = DataLoader(shared, batch_size=5, num_workers=1, persistent_workers=True, multiprocessing_context="spawn")
    for _ in range(2):
        assert torch.equal(torch.cat(list(loader)), rows_of(alone))


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x.int(),
        lambda x: x.numpy().astype(np.uint16),
        lambda x: x.tolist(),
        lambda x: x.T.contiguous().T,
    ],
)
def test_data_of_rows_yield_these_rows(convert):
    """Windows across the ends of rows would mix pictures, melodies or genes."""
    rows = torch.arange(60).view(12, 5)
    for dataset in (MaskedTokenDataset(convert(rows), 5), MaskedTokenDataset(convert(rows), sequential=True)):
        for _ in range(2):
            assert len(dataset) == 12 and torch.equal(rows_of(dataset), rows)
    told = MaskedTokenDataset(convert(rows), 5, identified=True)
    assert [told[3]["epoch"] for _ in range(3)] == [0, 1, 2] and torch.equal(told[3]["input_ids"], rows[3])
    with pytest.raises(ValueError, match="Token 7 of the data is 7"):
        MaskedTokenDataset(convert(rows), 5, mask_id=7)


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


def test_rows_can_include_their_example_id_and_epoch():
    dataset = MaskedTokenDataset(torch.arange(40), 10, identified=True)
    dataset.set_epoch(2)
    start, row = dataset.start(3), dataset[3]
    assert row["example_id"] == 3 and row["epoch"] == 2 and torch.equal(row["input_ids"], torch.arange(10) + start)
    assert dataset[3]["epoch"] == 3 and dataset[2]["epoch"] == 2
    evaluation = MaskedTokenDataset(torch.arange(40), 10, identified=True, sequential=True)
    assert [evaluation[1]["epoch"] for _ in range(2)] == [0, 0]  # evaluation repeats its noise


def test_the_mask_in_the_data_is_refused(monkeypatch):
    data = torch.arange(100)
    with pytest.raises(ValueError, match="Token 42 of the data is 42, which is mask_id"):
        MaskedTokenDataset(data, 10, mask_id=42)
    monkeypatch.setattr("unmask.data.store.fixed_windows._MOST_SCANNED", 10)
    dataset = MaskedTokenDataset(data, 10, mask_id=42, sequential=True)
    dataset[3]
    with pytest.raises(ValueError, match="Token 42 of the data"):
        dataset[4]


@pytest.mark.parametrize("data, length, message", [
    (torch.rand(10), 4, "flat array of integers"),
    (torch.arange(24).view(2, 3, 4), 4, "flat array of integers"),
    (torch.arange(3), 4, "at least one row"),
    (torch.arange(12).view(2, 6), 4, "but max_seq_len=4"),
    (torch.arange(12), None, "pass max_seq_len"),
    (torch.arange(0).view(0, 4), 4, "at least one row"),
])  # fmt: skip
def test_invalid_token_data_are_refused(data, length, message):
    with pytest.raises(ValueError, match=message):
        MaskedTokenDataset(data, length)


def test_an_array_has_the_windows_of_a_store():
    array = TokenArray(torch.arange(10), pad=99)
    assert len(array.windows(4)) == 3
    assert array.gather_windows([2, 0], 4).tolist() == [[8, 9, 99, 99], [0, 1, 2, 3]]
