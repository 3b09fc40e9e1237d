"""A blank of unknown length: every length in one batch, each scored as if decoded alone, the best kept."""

import pytest
import torch

from tests.decode.test_loop import Counting
from tests.naive.decoding import MASK, PAD
from unmask.contracts import SpecialIds
from unmask.decode.lengths import fill_any_length
from unmask.decode.named import make_rules

SPECIAL = SpecialIds(mask=MASK, pad=PAD, vocab_size=20)
GREEDY = make_rules(9, order="top_prob", temperature=0.0)


def counting_up(x_t, attention_mask=None, positions=None, block_mask=None):
    """A model of texts that count upwards: each visible neighbour votes for the adjacent number."""
    logits = torch.zeros(*x_t.shape, 20, dtype=torch.float64)
    for step, slot, other in ((1, slice(1, None), slice(None, -1)), (-1, slice(None, -1), slice(1, None))):
        neighbour = x_t[:, other]
        vote = torch.nn.functional.one_hot((neighbour + step).clamp(0, 19), 20) * 4.0
        logits[:, slot] += vote * (neighbour > PAD)[..., None]
    return logits


@pytest.mark.parametrize("gap", [1, 3, 5])
def test_the_best_length_is_kept(gap):
    found = fill_any_length(counting_up, [4, 5], [6 + gap, 7 + gap], range(1, 7), GREEDY, special=SPECIAL, seed=0)
    assert found.length == gap and found.ids.tolist() == list(range(4, 8 + gap))


def test_all_lengths_share_the_forward_passes():
    counting = Counting(counting_up)
    found = fill_any_length(counting, [4, 5], [9], [1, 2, 4], GREEDY, special=SPECIAL, seed=0)
    assert counting.rows == [3, 2, 1, 1] and found.decoded.steps_taken.tolist() == [1, 2, 4]


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_score_is_the_joint_log_probability_of_the_row_alone(power):
    rules = make_rules(9, order="left_to_right", temperature=0.0)
    found = fill_any_length(counting_up, [4], [9], [1, 2, 5], rules, special=SPECIAL, seed=0, power=power)
    for n, score in zip([1, 2, 5], found.scores.tolist(), strict=True):
        row, total = torch.tensor([[4, *[MASK] * n, 9]]), 0.0
        for place in range(1, n + 1):
            logits = counting_up(row)[0, place]
            logits[[MASK, PAD]] = -torch.inf
            best = logits.log_softmax(-1).max(-1)
            total, row[0, place] = total + best.values.item(), best.indices
        assert score == pytest.approx(total / n**power, abs=1e-9)


def test_the_joint_log_probability_prefers_short_fillings():
    """Between 4 and 12 no length fits: the mean prefers the longest filling, the sum one token."""
    lengths = range(1, 5)
    total, mean = (
        fill_any_length(counting_up, [4], [12], lengths, GREEDY, special=SPECIAL, seed=0, power=p) for p in (0.0, 1.0)
    )
    assert total.length < mean.length


@pytest.mark.parametrize("lengths", [[], [0, 1]])
def test_lengths_are_at_least_one(lengths):
    with pytest.raises(ValueError, match="1 or more"):
        fill_any_length(counting_up, [4], [9], lengths, GREEDY, special=SPECIAL)
