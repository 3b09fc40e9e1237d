"""Every diffusion objective is the any-order likelihood bound: exact, by enumeration, for models that were never trained."""

import math

import numpy as np
import pytest
import torch

from tests.naive.bound import TableModel, any_order_bound, hidden_cost, subsets
from unmask.ops.corruption import scheduled_corruption, uniform_corruption
from unmask.ops.mask_rates import DiscreteMaskRate
from unmask.ops.schedule import SCHEDULES, DiscreteTime, as_schedule, polynomial
from unmask.randomness import Noise
from unmask.training.loss import MLMLoss

SIZES = [(3, 3), (4, 4), (3, 5), (3, 6)]
SMOOTH = ["linear", "cosine", "quadratic"]


def tiny(vocab, length, seed=0):
    row = torch.randint(0, vocab - 1, (length,), generator=torch.Generator().manual_seed(seed))
    return TableModel(vocab, length, seed), row


def batch_of(model, row, hidden, p):
    """One row for each masking, as a collator would hand them to the loss."""
    return {
        "input_ids": torch.where(hidden, model.mask_idx, row),
        "target_ids": row.expand_as(hidden),
        "noise_mask": hidden,
        "p_mask": p.float().expand(hidden.shape),
    }


def row_sums(loss, batch):
    """The loss's numerator, row by row."""
    tokens = loss.score(batch)
    return torch.zeros(len(tokens.where), dtype=torch.float64).index_add(
        0, tokens.where.nonzero()[:, 0], tokens.nll.double() * tokens.weights.double()
    )


@pytest.mark.parametrize("vocab, length", SIZES)
def test_the_subset_sum_is_the_average_over_all_orders(vocab, length):
    model, row = tiny(vocab, length)
    hidden = subsets(length)
    size = hidden.sum(-1)
    ways = torch.tensor([math.comb(length, int(k)) for k in size])
    assert float((hidden_cost(model, row, hidden) / (size * ways)).sum()) == pytest.approx(
        any_order_bound(model, row), abs=1e-10
    )


@pytest.mark.parametrize("vocab, length", SIZES)
@pytest.mark.parametrize("name", SMOOTH)
def test_bernoulli_masking_under_any_schedule_gives_the_bound(vocab, length, name):
    """Gauss-Legendre over times, all maskings at each: levels from the corruption, weights from the loss."""
    model, row = tiny(vocab, length)
    loss = MLMLoss(model=model, weighting=as_schedule(name), normaliser="sequence")
    mask_rate = scheduled_corruption(model.mask_idx, as_schedule(name), t_min=0.0).mask_rate
    nodes, weights = np.polynomial.legendre.leggauss(24)
    hidden, total = subsets(length), 0.0
    for u, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        p = mask_rate(torch.tensor([u]))
        chance = torch.where(hidden, p, 1 - p).prod(-1)
        total += w * float((chance * row_sums(loss, batch_of(model, row, hidden, p))).sum())
    assert total == pytest.approx(any_order_bound(model, row), abs=1e-6)


@pytest.mark.parametrize("vocab, length", SIZES)
def test_llada_equals_mdlm_under_the_linear_schedule(vocab, length):
    model, row = tiny(vocab, length)
    batch = batch_of(model, row, subsets(length), torch.tensor([0.37]))
    llada = MLMLoss(model=model, weighting="inverse_p", normaliser="supervised")(batch)["loss"]
    mdlm = MLMLoss(model=model, weighting=SCHEDULES["linear"], normaliser="supervised")(batch)["loss"]
    assert torch.equal(llada, mdlm)


@pytest.mark.parametrize("vocab, length", SIZES)
@pytest.mark.parametrize("normaliser, per", [("sequence", 1), ("supervised", None), ("answer", None)])
def test_exact_counts_give_the_bound(vocab, length, normaliser, per):
    """Levels (i + 1/2)/L make every count once; given the count all subsets of that size are equally likely."""
    model, row = tiny(vocab, length)
    loss = MLMLoss(model=model, weighting="inverse_p", normaliser=normaliser)
    corruption = uniform_corruption(model.mask_idx, exact=True)
    every, total = subsets(length), 0.0
    for i in range(length):
        noise = Noise(torch.tensor([i]), row_uniforms=torch.tensor([(i + 0.5) / length]))
        noisy, scored, p = corruption(row[None], torch.ones(1, length, dtype=torch.bool), noise)
        assert int(scored.sum()) == int((noisy == model.mask_idx).sum()) == i + 1
        hidden = every[every.sum(-1) == i + 1]
        total += float(loss(batch_of(model, row, hidden, p))["loss"]) / length
    assert total * (per or length) == pytest.approx(any_order_bound(model, row), abs=1e-6)


@pytest.mark.parametrize("vocab, length", SIZES)
def test_the_mean_over_a_rows_masked_tokens_is_the_bound_per_token(vocab, length):
    """``use_num_masked_factor``: with counts uniform on 1..L (docs/theory.md, the mean over a row)."""
    model, row = tiny(vocab, length)
    loss = MLMLoss(model=model, use_num_masked_factor=True)
    every = subsets(length)
    by_count = [
        float(loss(batch_of(model, row, every[every.sum(-1) == k], torch.ones(1)))["loss"])
        for k in range(1, length + 1)
    ]
    assert sum(by_count) / length * length == pytest.approx(any_order_bound(model, row), abs=1e-6)


def test_a_floor_on_the_rate_biases_by_its_size():
    """Times on (eps, 1) leave out the integral below eps: 0.04% at 1e-3 and 3% at 0.1 of docs/theory.md, the likelihood bound, in order of size."""
    model, row = tiny(4, 4)
    hidden, exact = subsets(4), any_order_bound(model, row)
    loss = MLMLoss(model=model, weighting="inverse_p", normaliser="sequence")
    nodes, weights = np.polynomial.legendre.leggauss(24)
    for eps, most in ((1e-3, 2e-3), (0.1, 0.1)):
        mask_rate, total = uniform_corruption(3, eps).mask_rate, 0.0
        for u, w in zip((nodes + 1) / 2, weights / 2, strict=True):
            p = mask_rate(torch.tensor([u]))
            total += w * float(
                (torch.where(hidden, p, 1 - p).prod(-1) * row_sums(loss, batch_of(model, row, hidden, p))).sum()
            )
        assert 1e-6 < abs(total / exact - 1) < most


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_discrete_time_form_is_its_own_bound(name, steps):
    """E over t of T (alpha_s - alpha_t) / (1 - alpha_t) c(S) = sum over steps of the share revealed times E[c]."""
    model, row = tiny(4, 4)
    schedule, hidden = SCHEDULES[name], subsets(4)
    loss = MLMLoss(model=model, weighting=DiscreteTime(schedule, steps), normaliser="sequence")
    got = expected = 0.0
    for i in range(1, steps + 1):
        p = DiscreteMaskRate(schedule, steps)(torch.tensor([(i - 0.3) / steps], dtype=torch.float64))
        chance = torch.where(hidden, p, 1 - p).prod(-1)
        got += float((chance * row_sums(loss, batch_of(model, row, hidden, p))).sum()) / steps
        here, before = schedule.rate(torch.tensor([i / steps, (i - 1) / steps], dtype=torch.float64))
        expected += float((here - before) / here * (chance * hidden_cost(model, row, hidden)).sum())
    assert got == pytest.approx(expected, rel=1e-5)
    if steps == 1:  # all is hidden at once
        assert got == pytest.approx(float(hidden_cost(model, row, torch.ones(1, 4, dtype=torch.bool))), rel=1e-6)


@pytest.mark.parametrize("name", ["polynomial", "arccos", "log_linear"])
def test_other_schedules_give_the_bound_too(name):
    """Quadrature in the rate, where every schedule's integral is the same one: weight(t) dt = dp / p."""
    schedule = polynomial(1.7) if name == "polynomial" else SCHEDULES[name]
    model, row = tiny(3, 4)
    hidden = subsets(4)
    loss = MLMLoss(model=model, weighting=schedule, normaliser="sequence")
    nodes, weights = np.polynomial.legendre.leggauss(24)
    top, total = float(schedule.rate(torch.tensor(1.0, dtype=torch.float64))), 0.0
    for x, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        p = torch.tensor([x * top])
        dt = float(1 / schedule.drate(schedule.inverse(p))) * top
        chance = torch.where(hidden, p, 1 - p).prod(-1)
        total += w * dt * float((chance * row_sums(loss, batch_of(model, row, hidden, p))).sum())
    # log-linear stops at 1 - 1e-3 and leaves out as much of the integral
    assert total == pytest.approx(
        any_order_bound(model, row), **({"rel": 2e-3} if name == "log_linear" else {"abs": 2e-6})
    )


def test_block_diffusion_with_clean_prefixes_is_the_sum_of_the_blocks_bounds():
    """Blocks of one token: left to right. One block: the whole bound. A block's tokens see only blocks before it."""
    model, row = tiny(3, 4)
    for size, expected in ((4, any_order_bound(model, row)), (1, left_to_right(model, row))):
        total = 0.0
        loss = MLMLoss(model=model, weighting="inverse_p", normaliser="sequence")
        for start in range(0, 4, size):
            for i in range(size):
                every = subsets(size)
                hidden = torch.zeros(int((every.sum(-1) == i + 1).sum()), 4, dtype=torch.bool)
                hidden[:, start : start + size] = every[every.sum(-1) == i + 1]
                batch = batch_of(model, row, hidden, torch.tensor([(i + 1) / size]))
                unseen = hidden.clone()
                unseen[:, start + size :] = True
                batch["input_ids"] = torch.where(unseen, model.mask_idx, row)
                total += float(loss(batch)["loss"]) / size
        assert total == pytest.approx(expected, abs=1e-6)


def left_to_right(model, row):
    hidden, total = torch.ones(len(row), dtype=torch.bool), 0.0
    for position in range(len(row)):
        noisy = torch.where(hidden, model.mask_idx, row)
        total -= float(model(noisy[None])[0, position].log_softmax(-1)[row[position]])
        hidden[position] = False
    return total
