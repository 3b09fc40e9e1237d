"""Shared counts: one number in all processes, and own numbers in a copy."""

import copy
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from unmask.collate.padded import DefaultMLMCollator
from unmask.contracts import SpecialIds
from unmask.shared_counts import SharedCounts

SPECIAL = SpecialIds(mask=1, vocab_size=40, pad=0, bos=2, eos=3)


def test_a_copy_starts_from_the_present_values_and_goes_its_own_way():
    counts = SharedCounts(3)
    counts.values[1] = 7
    for other in (pickle.loads(pickle.dumps(counts)), copy.deepcopy(counts)):
        assert other.values.tolist() == [0, 7, 0] and other._cells.is_shared()
        other.values[1] += 1
    assert counts.values.tolist() == [0, 7, 0]


class Rows(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {"input_ids": [5 + index] * 20, "example_id": index}


@pytest.mark.parametrize("start, workers", [("fork", 2), ("fork", 1), ("spawn", 1)])
def test_persistent_workers_follow_set_epoch(start, workers):
    collator, alone = (DefaultMLMCollator(SPECIAL, 24, seed=4) for _ in range(2))
    loader = DataLoader(
        Rows(), 2, collate_fn=collator, num_workers=workers, persistent_workers=True, multiprocessing_context=start
    )
    passes = []
    for epoch in (0, 1, 5):
        collator.set_epoch(epoch)
        alone.set_epoch(epoch)
        passes.append(torch.cat([batch["noise_mask"] for batch in loader]))
        assert torch.equal(
            passes[-1], torch.cat([batch["noise_mask"] for batch in DataLoader(Rows(), 2, collate_fn=alone)])
        )
    assert not torch.equal(passes[0], passes[1]) and collator.epoch == 5
    repeated = torch.cat([batch["noise_mask"] for batch in loader])
    assert torch.equal(repeated, passes[-1])  # an example keeps its noise until the epoch moves on
