"""Spans: geometric lengths, every position hidden at the level, nothing beyond its run."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from unmask.ops.spans import Spans, _start_rate
from unmask.randomness import Noise


def hide(spans, mask_rate, eligible):
    rows = len(eligible)
    return spans(torch.full((rows,), mask_rate, dtype=torch.float64), eligible, Noise(torch.arange(rows)))[0]


def test_the_published_lengths_have_a_mean_of_3_8():
    law = Spans().lengths()
    assert float(law.sum()) == pytest.approx(1) and float((law * torch.arange(1, 11)).sum()) == pytest.approx(
        3.8, abs=0.05
    )
    assert torch.allclose(law[1:] / law[:-1], torch.full((9,), 0.8, dtype=torch.float64))


@pytest.mark.parametrize("mask_rate", [0.05, 0.15, 0.6])
@pytest.mark.parametrize("spans", [Spans(), Spans(0.5, 4), Spans(0.2, 1)])
def test_every_eligible_position_is_masked_at_the_mask_rate(mask_rate, spans):
    """The first position of a row and those behind a separator too."""
    rows = 30_000
    eligible = torch.ones(rows, 14, dtype=torch.bool)
    eligible[:, 5] = False
    share = hide(spans, mask_rate, eligible).double().mean(0)
    error = (mask_rate * (1 - mask_rate) / rows) ** 0.5
    assert share[5] == 0 and ((share - mask_rate).abs() < 4.5 * error)[eligible[0]].all(), share


def test_masked_runs_have_the_lengths_of_a_union_of_geometric_spans():
    """A run ends at a position where no span is under way: from there, simulate the same process token by token."""
    spans, mask_rate, rows = Spans(0.3, 6), 0.25, 1500
    hidden = hide(spans, mask_rate, torch.ones(rows, 60, dtype=torch.bool)).numpy()
    law = spans.lengths()
    q = float(_start_rate(torch.tensor([mask_rate], dtype=torch.float64), law.flip(0).cumsum(0).flip(0))[0])
    draw = np.random.default_rng(0)
    starts = draw.random((rows, 80)) < q
    lengths = draw.choice(np.arange(1, 7), size=(rows, 80), p=law.numpy())
    naive = np.zeros((rows, 80), dtype=bool)
    for r, c in zip(*starts.nonzero(), strict=True):
        naive[r, c : c + lengths[r, c]] = True

    def runs(mask):
        flat = np.concatenate([mask, np.zeros((len(mask), 1), bool)], 1).ravel().astype(int)
        edges = np.diff(np.concatenate([[0], flat]))
        found = np.bincount(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1), minlength=9)[1:]
        return np.append(found[:8], found[8:].sum()).astype(float)

    got, expected = runs(hidden), runs(naive[:, 20:])
    table = np.stack([got, expected])
    fitted = table.sum(0) * table.sum(1, keepdims=True) / table.sum()
    statistic = float(((table - fitted) ** 2 / fitted).sum())
    assert statistic < 26.1  # chi-square, 8 degrees of freedom, p = 0.001
    assert chisquare([got.sum(), expected.sum()]).pvalue > 1e-3


def test_mask_rates_of_zero_and_one_mask_nothing_and_everything():
    eligible = torch.rand(50, 12) < 0.8
    assert not hide(Spans(), 0.0, eligible).any()
    assert torch.equal(hide(Spans(), 1.0, eligible), eligible)
