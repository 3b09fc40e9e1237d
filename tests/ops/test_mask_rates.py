"""Levels and times: uniform alone, even together, and moving with a curriculum."""

import pytest
import torch
from scipy.stats import chisquare, kstest

from unmask.ops.mask_rates import ConstantMaskRate, DiscreteMaskRate, MaskRateWarmup, UniformMaskRate
from unmask.ops.schedule import SCHEDULES
from unmask.ops.time_sampling import SharedOffset, Stratified, antithetic
from unmask.randomness import low_discrepancy

PLACES = torch.arange(64)
LAWS = {"golden": low_discrepancy, "offset": SharedOffset(16), "stratified": Stratified(16), "antithetic": antithetic}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_each_row_alone_is_uniform_and_depends_on_its_place_only(law):
    u = law(3, 0, PLACES)
    assert ((u > 0) & (u < 1)).all()
    assert torch.equal(u[[5, 40, 6]], law(3, 0, PLACES[[5, 40, 6]]))
    assert not torch.equal(u, law(3, 1, PLACES)) and not torch.equal(u, law(4, 0, PLACES))
    assert torch.equal(u[7:9], law(3, torch.tensor([0, 0]), PLACES[7:9]))
    for place in (0, 7, 21):
        values = torch.stack([law(seed, 0, PLACES[place : place + 1]) for seed in range(300)]).flatten()
        assert kstest(values.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("law", [SharedOffset(16), Stratified(16)])
def test_a_global_batch_has_one_row_in_every_part(law):
    u = law(3, 0, PLACES).view(4, 16)
    if isinstance(law, SharedOffset):
        gaps = u.sort(-1).values.diff(dim=-1)
        assert torch.allclose(gaps, torch.full_like(gaps, 1 / 16))
    else:
        assert torch.equal((u * 16).long().sort(-1).values, torch.arange(16).expand(4, 16))
    assert not torch.equal(u[0], u[1])


def test_antithetic_pairs_sum_to_one():
    u = antithetic(3, 0, PLACES).view(-1, 2)
    assert torch.allclose(u.sum(-1), torch.ones(32, dtype=torch.float64)) and len(u[:, 0].unique()) == 32


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_even_times_lower_the_variance_of_a_batch(law):
    """The mean of 1 / (1 + u), a decreasing function as a loss is of its level, over batches of 16."""
    means = torch.stack([(1 / (1 + law(seed, 0, PLACES[:16]))).mean() for seed in range(200)])
    free = (1 / (1 + torch.rand(400, 16, dtype=torch.float64))).mean(-1)
    assert float(means.var()) < 0.3 * float(free.var())


def test_discrete_mask_rates_are_the_schedule_on_a_grid():
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    rates = DiscreteMaskRate(SCHEDULES["cosine"], 5)(u)
    grid, counts = rates.unique(return_counts=True)
    assert torch.allclose(grid, SCHEDULES["cosine"].rate(torch.arange(1, 6, dtype=torch.float64) / 5))
    assert chisquare(counts).pvalue > 0.99


def test_a_warmup_blends_from_one_law_to_the_other():
    u = torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    law = MaskRateWarmup(ConstantMaskRate(0.3), UniformMaskRate(0.0), over=0.5)
    assert torch.allclose(law.at(torch.tensor([0.0, 0.25, 0.5, 1.0]))(u), torch.tensor([0.3, 0.4, 0.5, 0.5]).double())
    assert ConstantMaskRate(0.2).at(torch.ones(4)) == ConstantMaskRate(0.2)
    with pytest.raises(ValueError, match="'progress'"):
        law(u)


@pytest.mark.parametrize("make", [
    lambda: DiscreteMaskRate(SCHEDULES["linear"], 0),
    lambda: MaskRateWarmup(ConstantMaskRate(0.1), ConstantMaskRate(0.2), over=0.0),
    lambda: SharedOffset(0),
    lambda: Stratified(-1),
])  # fmt: skip
def test_impossible_laws_raise(make):
    with pytest.raises(ValueError):
        make()
