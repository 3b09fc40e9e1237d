"""Masked accuracy: right when the model is, chance when it guesses."""

import json
import math

import numpy as np
import pytest
import torch

from tests.evaluate.tiny_models import SPECIAL, ConstantModel
from unmask.evaluate.metrics import entropy, in_top, masked_accuracy
from unmask.evaluate.windows import Windows


def test_ranks_by_hand():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    assert in_top(1)(logits, torch.tensor([0, 0])).tolist() == [1.0, pytest.approx(1 / 3)]
    assert in_top(1)(logits, torch.tensor([1, 3])).tolist() == [0.0, 0.0]
    assert in_top(2)(logits, torch.tensor([1, 2])).tolist() == [1.0, pytest.approx(2 / 3)]
    assert in_top(4)(logits, torch.tensor([3, 3])).tolist() == [1.0, 1.0]


def test_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0, -math.inf], [0.0, -math.inf, -math.inf]])
    assert entropy(logits, torch.tensor([0, 0])).tolist() == pytest.approx([math.log(2), 0.0])


def test_a_model_that_always_says_2():
    logits = np.zeros(6)
    logits[2] = 5.0
    rows = [[2, 2, 2, 2], [2, 0, 2, 0] * 10, [3] * 6]
    found = masked_accuracy(ConstantModel(logits), Windows.of_rows(rows, 40), SPECIAL, rate=1.0)
    assert found.top_1.value == pytest.approx(24 / 50)
    chance = found.top_5.value - found.top_1.value  # four of the five others
    assert chance == pytest.approx(26 / 50 * 4 / 5)
    json.dumps(found.as_dict(), allow_nan=False)


def test_exactly_the_rate_is_masked():
    class Watch(ConstantModel):
        def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
            self.hidden = (x_t == SPECIAL.mask).sum(-1).tolist()
            return super().__call__(x_t)

    model = Watch(np.zeros(6))
    found = masked_accuracy(model, Windows.of_rows([[1] * 20, [2] * 7], 20), SPECIAL, rate=0.25)
    assert model.hidden == [5, 2]
    assert found.top_1.value == pytest.approx(1 / 6) and found.entropy.value == pytest.approx(math.log(6))


@pytest.mark.parametrize("rate", [0.0, 1.5])
def test_a_rate_is_a_fraction(rate):
    with pytest.raises(ValueError, match="fraction of tokens"):
        masked_accuracy(ConstantModel(np.zeros(6)), Windows.of_rows([[1]], 4), SPECIAL, rate=rate)
