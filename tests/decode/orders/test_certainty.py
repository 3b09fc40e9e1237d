"""Commit rules at extreme bounds: a probability that rounds to 1 is not treated as 1."""

import pytest
import torch

from tests.naive.decoding import FIRST_WORD, MASK, TableModel, specials
from unmask.decode.budget import MinOnePerStep
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.commit_rules import CumulativeError, EntropyBound, Factor, Threshold
from unmask.decode.orders.scores import ConfidenceOrder
from unmask.decode.orders.selector import Selector
from unmask.decode.rules import Rules
from unmask.ops.confidence import CONFIDENCES, DOUBTS, entropy, prob_diff, top_prob

BLANKS, SPECIAL = 5, specials(3)


def steps(commit_rule, gap, measure=top_prob, dtype=torch.float32, only=False):
    """Return the steps of five masked positions, each with one word ``gap`` nats above two others (or ``only`` that word)."""
    logits = torch.full((BLANKS, SPECIAL.vocab_size), -torch.inf if only else 0.0, dtype=dtype)
    logits[:, FIRST_WORD] = gap
    rules = Rules(BLANKS, Selector(ConfidenceOrder(measure), commit_rule), MinOnePerStep(), allow_eos=False)
    canvas = Canvas.infill(torch.full((1, BLANKS), MASK), SPECIAL)
    return int(fill_canvas(TableModel(logits), canvas, rules, special=SPECIAL, seed=0).steps_taken[0])


@pytest.mark.parametrize("measure", CONFIDENCES.values())
@pytest.mark.parametrize("gap", [1.0, 18.0, 40.0, 200.0, 1e4])
def test_threshold_one_unmasks_one_token_per_step(measure, gap):
    assert steps(Threshold(1.0), gap, measure) == BLANKS
    assert steps(Threshold(1.0), gap, measure, torch.float64) == BLANKS


@pytest.mark.parametrize("gap", [18.0, 40.0, 200.0, 1e4])
def test_tiny_bounds_are_not_met_by_rounding(gap):
    doubt = 2 * torch.tensor(-gap, dtype=torch.float64).exp().item()
    assert steps(EntropyBound(0.0), gap) == BLANKS
    if doubt > 0:
        assert steps(Factor(2.5 * doubt), gap) > steps(Factor(BLANKS * 2.5 * doubt), gap) == 1
        assert steps(CumulativeError(0.5 * doubt), gap) == BLANKS and steps(CumulativeError(BLANKS * doubt), gap) == 1
    assert steps(Factor(1e-308), gap) == BLANKS  # also where the small probabilities underflow


@pytest.mark.parametrize(
    "commit_rule", [EntropyBound(0.0), Factor(1e-12), CumulativeError(1e-12), Threshold(1 - 1e-12)]
)
def test_certain_positions_are_unmasked_at_once(commit_rule):
    assert steps(commit_rule, 0.0, only=True) == 1


def test_a_threshold_near_one_is_exact_where_probabilities_round_to_one():
    gap = 19.0  # 1 - p = 1.1e-8, and p is 1 in float32
    assert torch.tensor([gap, 0.0, 0.0]).log_softmax(-1)[0].exp() == 1
    assert steps(Threshold(1 - 1e-9), gap) == BLANKS
    assert steps(Threshold(1 - 1e-7), gap) == 1


def test_doubts_are_one_minus_confidence():
    log_probs = torch.randn(50, 7, dtype=torch.float64).mul(3).log_softmax(-1)
    log_probs[:, 3] = -torch.inf
    log_probs = log_probs.log_softmax(-1)
    for measure in (top_prob, prob_diff, entropy):
        torch.testing.assert_close(DOUBTS[measure](log_probs), 1 - measure(log_probs))
    sharp = torch.tensor([[0.0, -30.0, -31.0]], dtype=torch.float64).log_softmax(-1)
    exact = torch.tensor([-30.0, -31.0], dtype=torch.float64).exp()
    assert DOUBTS[top_prob](sharp.float()).item() == pytest.approx(exact.sum().item(), rel=1e-5)
    assert DOUBTS[prob_diff](sharp.float()).item() == pytest.approx((2 * exact[0] + exact[1]).item(), rel=1e-5)
