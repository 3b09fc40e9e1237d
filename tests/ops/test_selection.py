"""Choosing: exact counts, ties to the left, and weighted sampling that follows its law."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from unmask.ops.selection import _batched_gumbel_topk, gumbel, gumbel_topk, sample_weighted, select_top
from unmask.randomness import Noise, Stream


def naive_top(scores, candidates, budget):
    """One row at a time, by sorting pairs."""
    chosen = torch.zeros_like(candidates)
    for b in range(len(scores)):
        order = sorted((i for i in range(scores.shape[1]) if candidates[b, i]), key=lambda i: (-float(scores[b, i]), i))
        chosen[b, order[: int(budget[b])]] = True
    return chosen


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_select_top_takes_the_best_and_ties_go_left(seed, rows, length):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (rows, length), generator=g).double()
    candidates = torch.rand(rows, length, generator=g) < 0.6
    budget = torch.randint(0, length + 2, (rows,), generator=g)
    chosen = select_top(scores, candidates, budget)
    assert torch.equal(chosen, naive_top(scores, candidates, budget))
    assert torch.equal(chosen.sum(-1), torch.minimum(budget, candidates.sum(-1)))


def test_gumbel_topk_is_exact_and_never_takes_the_impossible():
    log_w = torch.randn(500, 12)
    log_w[torch.rand(500, 12) < 0.4] = -torch.inf
    k = (torch.rand(500) * ((log_w > -torch.inf).sum(-1) + 1)).long()
    chosen = _batched_gumbel_topk(log_w, k, torch.Generator().manual_seed(1))
    assert torch.equal(chosen.sum(-1), k) and not (chosen & (log_w == -torch.inf)).any()
    assert gumbel_topk(torch.tensor([0.0, -torch.inf, 0.0]), 2).tolist() == [True, False, True]


def test_gumbel_topk_samples_successively_without_replacement():
    """P({i, j}) = w_i w_j / W (1 / (W - w_i) + 1 / (W - w_j)), Kool et al. 2019."""
    w = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    n, total = 40_000, float(w.sum())
    chosen = _batched_gumbel_topk(w.log().expand(n, 4), torch.full((n,), 2), torch.Generator().manual_seed(0))
    counts, expected = [], []
    for i, j in itertools.combinations(range(4), 2):
        counts.append(int((chosen[:, i] & chosen[:, j]).sum()))
        expected.append(n * float(w[i] * w[j] / total * (1 / (total - w[i]) + 1 / (total - w[j]))))
    assert chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("k", [-1, 3])
def test_selecting_more_than_possible_raises(k):
    with pytest.raises(ValueError, match="selects k items"):
        gumbel_topk(torch.tensor([0.0, -torch.inf, 0.0]), k)


def test_the_tail_of_gumbel_noise_is_not_cut():
    """Of equal tokens all win equally often; low-precision noise ties, and gives id 0 four times its share."""
    noise = gumbel(Noise(torch.arange(6_000)).per_token(Stream.ORDER, 400))
    wins = torch.bincount(noise.argmax(-1), minlength=400)
    assert chisquare(wins.numpy()).pvalue > 1e-3
    exact = gumbel(torch.tensor([1 - 2.0**-53, 2.0**-53], dtype=torch.float64))
    assert torch.isfinite(exact).all() and exact[0] > 36 and exact[1] < -3.5


def sampled(log_w, k, candidates, noise):
    """The definition of a weighted sample: the largest log-weights plus Gumbel noise, in float64."""
    halves = torch.from_numpy(noise.halves(Stream.SELECTION, log_w.shape[1]).astype("int64"))
    return naive_top(log_w.double() + gumbel((halves.double() + 0.5) * 2.0**-32), candidates, k)


@pytest.mark.parametrize("spread", [0.0, 3.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_by_float32_quotients_is_that_of_float64_scores(spread, dtype):
    g = torch.Generator().manual_seed(int(spread))
    log_w = -spread * torch.rand(400, 23, generator=g, dtype=torch.float64).to(dtype)
    for candidates in (torch.rand(400, 23, generator=g) < 0.7, torch.ones(400, 23, dtype=torch.bool)):
        k = (torch.rand(400, generator=g) * (candidates.sum(-1) + 1)).long()
        weights, noise = log_w.masked_fill(~candidates, -torch.inf), Noise(torch.arange(400))
        assert torch.equal(sample_weighted(weights, k, candidates, noise), sampled(weights, k, candidates, noise))


def test_rows_that_float32_cannot_tell_apart_are_drawn_in_float64(monkeypatch):
    """Halves one apart are equal in float32 near 1; the smaller quotient is that of the larger half."""
    halves = (2**32 - 1 - torch.tensor([[3, 1, 2, 0, 4, 5]] * 5)).numpy().astype("uint32")
    monkeypatch.setattr(Noise, "halves", lambda *_: halves)
    noise, every = Noise(torch.arange(5)), torch.ones(5, 6, dtype=torch.bool)
    chosen = sample_weighted(torch.zeros(5, 6), torch.arange(1, 6), every, noise)
    order = [3, 1, 2, 0, 4]
    assert [set(row.nonzero()[:, 0].tolist()) for row in chosen] == [set(order[:n]) for n in range(1, 6)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_select_top_tells_scores_apart_that_are_equal_in_float32(dtype):
    g = torch.Generator().manual_seed(0)
    scores = (1 + torch.randint(0, 9, (40, 30), generator=g) * 1e-12 + torch.rand(40, 1, generator=g)).to(dtype)
    candidates, budget = torch.rand(40, 30, generator=g) < 0.8, torch.randint(-1, 32, (40,), generator=g)
    assert torch.equal(select_top(scores, candidates, budget), naive_top(scores, candidates, budget.clamp(min=0)))
