"""The bound and the exact match of answers: only the last answer counts, special tokens in it too."""

import math

import pytest
import torch

from tests.evaluate.tiny_models import SPECIAL, ConstantModel, PosteriorModel
from unmask.contracts import SpecialIds
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.windows import Windows
from unmask.text.answer_matching import exact_matches


def test_the_bound_of_exact_conditionals_is_the_likelihood_of_the_answer_given_its_prompt():
    """Every order of an exact joint gives the same sum, so the bound is tight: -log p(answer | prompt)."""
    model, row = PosteriorModel(4, seed=1), [0, 3, 1, 2]
    prompt = torch.tensor([[*row[:2], SPECIAL.mask, SPECIAL.mask]])
    agrees = (model.rows[:, :2] == prompt[0, :2]).all(-1)
    expected = model.nll(row) + float(model.p[agrees].sum().log())
    windows = Windows.of_answers([(row, [0, 0, 1, 1])], block_size=8)
    bound = nelbo(model, windows, SPECIAL, samples=3000, seed=0)
    assert bound.tokens.tolist() == [2]
    assert bound.total_nats == pytest.approx(expected, abs=4 * bound.nats.std() / math.sqrt(3000))


def test_a_uniform_model_scores_ln_v_on_the_last_answer_with_its_end():
    special = SpecialIds(mask=4, vocab_size=6, pad=5, eos=3)
    chat = ([0, 1, 2, 3, 0, 2, 2, 3], [0, 0, 1, 1, 0, 1, 1, 1])
    windows = Windows.of_answers([chat, ([0, 1, 3], [0, 1, 1])], block_size=8)
    assert windows.answers[0].tolist() == [False] * 5 + [True] * 3
    bound = nelbo(ConstantModel([0.0] * 6), windows, special, samples=3)
    assert bound.tokens.tolist() == [3, 2] and bound.unscored == 0
    assert bound.nats_per_token.value == pytest.approx(math.log(6))


def test_rows_without_answers_are_left_out_and_long_ones_cut_around_them():
    windows = Windows.of_answers([([0, 1], [0, 0]), ([0, 1, 2, 1, 0, 2], [0, 0, 0, 0, 1, 1])], block_size=3)
    assert [row.tolist() for row in windows.rows] == [[1, 0, 2]]
    with pytest.raises(ValueError, match="no answer to evaluate"):
        Windows.of_answers([([0, 1], [0, 0])], block_size=8)


class Successor(torch.nn.Module):
    """Continues 0, 1, 2, … from the token before, once that is known; the end of a turn (3) follows 2."""

    def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
        before = torch.nn.functional.pad(x_t[:, :-1], (1, 0), value=4)
        following = torch.where(before < 4, before + 1, 0)
        certain = torch.where(before == 4, 1.0, 9.0)
        return torch.nn.functional.one_hot(following, 6) * certain[..., None]


def test_greedy_answers_hold_special_tokens_and_depend_on_their_own_row_alone():
    special = SpecialIds(mask=4, vocab_size=6, pad=5, eos=3)
    right = [([0, 1, 2, 3], [0, 1, 1, 1]), ([2, 3, 0, 1], [0, 1, 0, 1]), ([0, 1, 0], [0, 1, 0])]
    wrong = [([0, 1, 1, 3], [0, 1, 1, 1]), ([0, 1, 2, 0], [0, 1, 1, 1])]
    rows = [right[0], wrong[0], right[1], wrong[1], right[2]]
    expected = [True, False, True, False, True]
    windows, model = Windows.of_answers(rows, block_size=8), Successor()
    assert exact_matches(model, windows, special).tolist() == expected
    assert exact_matches(model, windows, special, batch_tokens=1).tolist() == expected
