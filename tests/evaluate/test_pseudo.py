"""Pseudo-log-likelihood: each token given all the others."""

import math

import numpy as np
import pytest
import torch

from tests.evaluate.tiny_models import SPECIAL, ConstantModel, PosteriorModel, TableModel
from unmask.evaluate.pseudo import pseudo_log_likelihood


def test_by_hand():
    model, row = TableModel(3), [2, 0, 1]
    found = pseudo_log_likelihood(model, [row], SPECIAL)[0]
    for place in range(3):
        masked = [*row[:place], SPECIAL.mask, *row[place + 1 :]]
        code = (masked[0] * 6 + masked[1]) * 6 + masked[2]
        assert found[place] == pytest.approx(float(model.table[code, place, row[place]]), abs=1e-12)


def test_an_exact_posterior_gives_full_conditionals():
    model, row = PosteriorModel(3), [1, 2, 3]
    found = pseudo_log_likelihood(model, [row], SPECIAL)[0]
    for place in range(3):
        others = [[*row[:place], v, *row[place + 1 :]] for v in range(4)]
        joint = np.exp([-model.nll(other) for other in others])
        assert found[place] == pytest.approx(math.log(joint[row[place]] / joint.sum()), abs=1e-12)


def test_specials_are_context_only_and_rows_may_be_empty():
    found = pseudo_log_likelihood(ConstantModel(np.zeros(6)), [[0, 5, 1], [], [5]], SPECIAL)
    assert np.array_equal(found[0], [-math.log(6), np.nan, -math.log(6)], equal_nan=True)
    assert found[1].shape == (0,) and np.isnan(found[2]).all()
    assert pseudo_log_likelihood(ConstantModel(np.zeros(6)), [], SPECIAL) == []


def test_batching_changes_cost_not_numbers():
    model, rows = TableModel(4), [[0, 1, 2, 3], [3, 3, 0, 1], [1, 1, 1, 1]]
    seen = []
    one = pseudo_log_likelihood(model, rows, SPECIAL, batch_tokens=1)
    two = pseudo_log_likelihood(model, rows, SPECIAL, progress=lambda *now: seen.append(now))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)) and seen == [(48, 48)]


def test_a_mask_in_the_text_is_refused():
    with pytest.raises(ValueError, match="contains the mask token"):
        pseudo_log_likelihood(ConstantModel(np.zeros(6)), [[0, 4]], SPECIAL)


@pytest.mark.parametrize(
    ("form", "masks"),
    [
        ("original", [[0], [1], [2], [3]]),
        ("word_l2r", [[0], [1, 2], [2], [3]]),
        ("whole_word", [[0], [1, 2], [1, 2], [3]]),
        ("sentence_l2r", [[0, 1, 2, 3], [1, 2, 3], [2, 3], [3]]),
    ],
)
def test_forms_by_hand(form, masks):
    model, row, words = TableModel(4), [2, 0, 1, 3], np.array([0, 1, 1, 2])
    found = pseudo_log_likelihood(model, [row], SPECIAL, form=form, words=[words])[0]
    for place, hidden in enumerate(masks):
        masked = [SPECIAL.mask if i in hidden else id for i, id in enumerate(row)]
        assert found[place] == pytest.approx(float(model(torch.tensor([masked]))[0, place, row[place]]), abs=1e-12)


def test_context_is_never_masked_and_a_form_of_words_needs_them():
    model, row, words = TableModel(4), [2, 0, 1, 3], [np.zeros(4, dtype=np.int64)]
    scored = [np.array([False, True, False, True])]
    found = pseudo_log_likelihood(model, [row], SPECIAL, form="word_l2r", words=words, scored=scored)[0]
    masked = torch.tensor([[2, SPECIAL.mask, 1, SPECIAL.mask]])
    assert np.isnan(found[[0, 2]]).all() and found[1] == pytest.approx(float(model(masked)[0, 1, 0]))
    with pytest.raises(ValueError, match="words=None"):
        pseudo_log_likelihood(model, [row], SPECIAL, form="word_l2r")
    with pytest.raises(ValueError, match="no form"):
        pseudo_log_likelihood(model, [row], SPECIAL, form="word")
