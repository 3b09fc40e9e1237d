"""The order of the documents is no part of an evaluation."""

import numpy as np
import pytest
import torch

from unmask import RotaryTransformerMLMModel, SpecialIds
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.metrics import masked_accuracy
from unmask.evaluate.windows import Windows

SPECIAL = SpecialIds(mask=0, pad=1, vocab_size=40)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return RotaryTransformerMLMModel(40, 16, 1, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8, max_length=64)


def documents(count: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(0)
    some = [rng.integers(2, 40, rng.integers(1, 30)).tolist() for _ in range(count)]
    return [*some, some[0], some[0], some[1]]  # duplicates get noise of their own


@pytest.mark.parametrize("time", ["discrete", "continuous"])
def test_shuffled_documents_have_the_same_bound(model, time):
    rows = documents()
    order = np.random.default_rng(1).permutation(len(rows))
    given = nelbo(model, Windows.of_rows(rows, 8), SPECIAL, samples=2, time=time)
    shuffled = nelbo(model, Windows.of_rows([rows[i] for i in order], 8), SPECIAL, samples=2, time=time)
    assert shuffled.total_nats == pytest.approx(given.total_nats, rel=1e-6)
    alone = order < 20
    alone &= ~np.isin(order, [0, 1])
    np.testing.assert_allclose(shuffled.nats[:, alone], given.nats[:, order[alone]], rtol=1e-4)


def test_equal_documents_have_different_masks_and_the_rates_cover_the_unit_interval():
    windows = Windows.of_rows([[5, 6, 7, 8]] * 64, 4)
    keys, places = windows.noise_keys(SPECIAL)
    assert len(set(keys.tolist())) == 64 and sorted(places.tolist()) == list(range(64))


def test_equal_windows_of_a_document_have_keys_of_their_own_answers_count_and_padding_does_not():
    keys, _ = Windows.of_rows([[5, 5, 5, 5]], 2).noise_keys(SPECIAL)
    assert keys[0] != keys[1]
    one, two = (Windows.of_answers([([5, 6, 7], flags)], 8).noise_keys(SPECIAL)[0] for flags in ([0, 0, 1], [0, 1, 1]))
    assert one[0] != two[0]
    bare, padded = (Windows.of_rows([row], 8).noise_keys(SPECIAL)[0] for row in ([5, 6], [1, 5, 6, 1]))
    assert bare[0] == padded[0]


def test_accuracy_is_that_of_the_shuffled_documents(model):
    rows = documents()
    given, turned = (masked_accuracy(model, Windows.of_rows(each, 8), SPECIAL) for each in (rows, rows[::-1]))
    for name, estimate in vars(given).items():
        if hasattr(estimate, "value"):
            assert estimate.value == pytest.approx(getattr(turned, name).value), name
