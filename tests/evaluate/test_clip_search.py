"""The chosen range of mask rates has the least measured variance; the bound keeps all rates."""

import math

import numpy as np
import pytest
import torch

from tests.evaluate.tiny_models import SPECIAL, PosteriorModel
from unmask import RotaryTransformerMLMModel, Windows, nelbo
from unmask.evaluate.clip_search import as_report, clip_grid, least_variance, measure_clips
from unmask.ops.mask_rates import UniformMaskRate
from unmask.randomness import low_discrepancy

ROWS = [[0, 1, 2], [3, 3, 1], [2, 0, 0], [1, 1, 2]] * 25
GRID = clip_grid([0.5, 0.25], step=0.25)


def uniform(x_t, attention_mask=None, positions=None, block_mask=None):
    return torch.zeros(*x_t.shape, 6)


def test_the_choice_is_the_argmin_over_the_grid():
    measured = measure_clips(PosteriorModel(3), Windows.of_rows(ROWS, 3), SPECIAL, GRID, samples=3)
    assert [(each.rate_min, each.rate_max) for each in measured] == GRID
    chosen = least_variance(measured)
    assert chosen.variance == min(each.variance for each in measured) and chosen in measured
    report = as_report(measured)
    assert report["chosen"] == chosen.as_dict() and len(report["ranges"]) == len(GRID)


def test_the_variance_of_a_uniform_network_is_known():
    """Of n tokens each is masked at rate t, so Var = (ln V)^2 E[(1 / t - 1) / n] + 0, the mean loss being ln V."""
    length, rows = 4, [[0, 1, 2, 3]] * 4000
    (found,) = measure_clips(uniform, Windows.of_rows(rows, length), SPECIAL, [(0.5, 1.0)], samples=2)
    expected = math.log(6) ** 2 * (2 * math.log(2) - 1) / length
    assert found.loss == pytest.approx(math.log(6), rel=0.01)
    assert found.variance == pytest.approx(expected, rel=0.05)


def test_rates_stay_in_their_range_and_share_their_uniforms():
    uniforms = low_discrepancy(0, torch.zeros(50, dtype=torch.int64), torch.arange(50))
    low, high = UniformMaskRate(0.25, 0.5)(uniforms), UniformMaskRate(0.5, 1.0)(uniforms)
    assert low.min() >= 0.25 and low.max() <= 0.5
    torch.testing.assert_close((low - 0.25) / 0.25, (high - 0.5) / 0.5)


def test_order_batches_and_other_ranges_change_nothing():
    windows, model = Windows.of_rows(ROWS, 3), PosteriorModel(3)
    alone = measure_clips(model, windows, SPECIAL, GRID[1:2], samples=2, batch_tokens=3)
    assert alone[0].variance == pytest.approx(measure_clips(model, windows, SPECIAL, GRID, samples=2)[1].variance)
    turned = measure_clips(model, Windows.of_rows(ROWS[::-1], 3), SPECIAL, GRID[1:2], samples=2)
    assert alone[0].variance == pytest.approx(turned[0].variance)


def test_blocks_are_losses_of_their_own():
    torch.manual_seed(0)
    network = RotaryTransformerMLMModel(6, 16, 1, 2, mask_idx=4, padding_idx=5, causal_block=2).eval()
    windows = Windows.of_rows([[0, 1, 2, 3, 1], [3, 2, 1, 0, 2]], 5)  # the last block has one token, and is left out
    (found,) = measure_clips(network, windows, SPECIAL, [(0.999, 1.0)])
    with torch.no_grad():
        each = []
        for row in windows.rows:
            for start in (0, 2):
                ids = torch.from_numpy(np.array(row[: start + 2])).long()[None]
                masked = ids.clone()
                masked[:, start:] = 4
                logits = network(masked, torch.ones_like(ids, dtype=torch.bool)).log_softmax(-1)
                each.append(-float(logits[0, start:].gather(-1, ids[0, start:, None]).mean()))
    assert found.loss == pytest.approx(np.mean(each), rel=0.02)


def test_the_bound_is_of_all_rates():
    rows, model = Windows.of_rows(ROWS[:4], 3), PosteriorModel(3)
    exact = sum(model.nll(row) for row in ROWS[:4])
    assert nelbo(model, rows, SPECIAL, samples=400).total_nats == pytest.approx(exact, rel=0.02)
    clips = measure_clips(model, rows, SPECIAL, [(0.0, 0.5), (0.5, 1.0)], samples=400)
    assert (clips[0].loss + clips[1].loss) / 2 == pytest.approx(exact / 12, rel=0.1), "the mean over all rates"
    assert abs(clips[0].loss - clips[1].loss) > 0.2 * exact / 12, "the loss on a part of the rates is another number"


@pytest.mark.parametrize("wrong", [{"widths": [0.0]}, {"widths": [1.5]}, {"step": 0.0}])
def test_impossible_ranges_raise(wrong):
    with pytest.raises(ValueError, match=r"lie in \(0, 1\]"):
        clip_grid(**wrong)
    with pytest.raises(ValueError, match="no range"):
        measure_clips(uniform, Windows.of_rows(ROWS, 3), SPECIAL, [])
