"""Packing: every token once, documents whole where they fit, bounded memory, little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.collate.packed import PackedMLMCollator
from unmask.collate.packing import Packer
from unmask.contracts import SpecialIds
from unmask.data.corpus import built_in as corpora

PAD = 0


def documents_of(rows):
    """The documents that packed rows hold, in no order."""
    found = []
    for row in rows:
        real = row["input_ids"] != PAD
        for number in np.unique(row["segment_ids"][real]):
            found.append(tuple(row["input_ids"][real & (row["segment_ids"] == number)].tolist()))
    return sorted(found)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 16), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_every_token_once_and_documents_whole_where_they_fit(lengths, block, open_rows):
    documents = [[i + 1] * n for i, n in enumerate(lengths)]
    packer = Packer(block, PAD, open_rows)
    rows = list(packer.pack(documents))
    pieces = [tuple(d[i : i + block]) for d in documents for i in range(0, len(d), block)]
    assert documents_of(rows) == sorted(pieces)
    for row in rows:
        assert row["input_ids"].shape == row["segment_ids"].shape == (block,)
        real = row["input_ids"] != PAD
        assert not (np.diff(real.astype(int)) > 0).any() and (np.diff(row["segment_ids"]) >= 0).all()
        assert not set(row["segment_ids"][real]) & set(row["segment_ids"][~real])
    assert packer.rows == len(rows) and packer.tokens == sum(lengths) and packer.cut == sum(n > block for n in lengths)
    assert packer.efficiency == (sum(lengths) / (len(rows) * block) if rows else 1.0)


def test_a_document_goes_where_it_fits_best():
    """Room of 4 and of 3 is left: 3 tokens go to the second row, though the first is older."""
    rows = list(Packer(10, PAD).pack([[1] * 6, [2] * 7, [3] * 3, [4] * 4]))
    assert documents_of(rows[:1]) == [(2,) * 7, (3,) * 3]
    assert documents_of(rows[1:]) == [(1,) * 6, (4,) * 4]


def test_memory_is_bounded_by_the_rows_under_way():
    """A stream without end is packed as it comes: rows leave while at most ``open_rows`` are kept."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield [1] * 7

    rows = Packer(10, PAD, open_rows=4).pack(endless())
    for finished in range(1, 50):
        next(rows)
        assert taken - finished <= 4


def test_real_text_fills_98_percent_of_the_slots(tokenizer):
    texts = [document.text for document in corpora.documents("python-docs")[:1200]]
    lengths = np.array([len(ids) + 1 for ids in tokenizer.encode_batch(texts)])
    packer = Packer(512, PAD)
    assert sum(1 for _ in packer.pack(np.ones(n, dtype=np.int64) for n in lengths)) == packer.rows
    assert packer.efficiency >= 0.98
    cut_everywhere = (lengths > 512).sum() + (np.diff(lengths.cumsum() // 512) > 0).sum()
    assert packer.cut < 0.7 * cut_everywhere


def test_packed_rows_are_what_the_packed_collator_reads():
    special = SpecialIds(mask=1, vocab_size=50, pad=PAD, eos=3)
    rows = list(Packer(8, PAD).pack([[5, 6, 7], [8, 9], [10] * 4, [11]]))
    batch = PackedMLMCollator(special, 8)(rows)
    assert batch["segment_ids"].tolist() == [row["segment_ids"].tolist() for row in rows]
    assert not batch["attention_mask"][batch["target_ids"] == -100].any()
    assert (batch["positions"][:, 0] == 0).all() and batch["positions"].max() == 3


@pytest.mark.parametrize("block, open_rows", [(0, 1), (4, 0)])
def test_packers_without_room_are_refused(block, open_rows):
    with pytest.raises(ValueError, match="at least 1: tokens per row"):
        Packer(block, PAD, open_rows)
