"""A schedule is one curve: its derivative, inverse and weight must be that curve's."""

import pickle

import pytest
import torch

from unmask.ops.schedule import (
    SCHEDULES,
    DiscreteTime,
    as_schedule,
    clipped,
    geometric,
    polynomial,
    schedule_from_callable,
)

TIMES = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
EVERY = sorted(SCHEDULES)


@pytest.mark.parametrize("name", EVERY)
def test_a_rate_rises_from_its_start_to_one(name):
    schedule = SCHEDULES[name]
    ends = schedule.rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert 0 <= ends[0] < 2e-3 and abs(ends[1] - 1) < 2e-3
    assert (schedule.rate(TIMES).diff() > 0).all()
    assert torch.equal(schedule.alpha(TIMES), 1 - schedule.rate(TIMES))


@pytest.mark.parametrize("name", EVERY)
def test_the_derivative_inverse_and_weight_belong_to_the_rate(name):
    schedule, step = SCHEDULES[name], 1e-6
    slope = (schedule.rate(TIMES + step) - schedule.rate(TIMES - step)) / (2 * step)
    assert torch.allclose(schedule.drate(TIMES), slope, rtol=1e-5, atol=1e-7)
    assert torch.allclose(schedule.inverse(schedule.rate(TIMES)), TIMES, atol=1e-8)
    assert torch.allclose(schedule.weight(TIMES), schedule.drate(TIMES) / schedule.rate(TIMES))
    assert torch.allclose(schedule.weight_at_rate(schedule.rate(TIMES)), schedule.weight(TIMES), rtol=1e-6)
    assert (schedule.weight(TIMES) >= 0).all()
    extremes = schedule.weight_at_rate(torch.tensor([1e-7, 0.9999, 1.0], dtype=torch.float64))
    assert torch.isfinite(extremes).all() and (extremes >= 0).all()


def test_the_linear_and_cosine_weights_are_those_of_the_papers():
    assert torch.allclose(SCHEDULES["linear"].weight(TIMES), 1 / TIMES)
    half_pi = torch.pi / 2  # MD4: -alpha'/(1 - alpha) with alpha = 1 - cos(pi/2 (1 - t))
    assert torch.allclose(SCHEDULES["cosine"].weight(TIMES), half_pi * torch.tan(half_pi * (1 - TIMES)))


@pytest.mark.parametrize("name", ["linear", "cosine", "quadratic"])
def test_a_function_becomes_the_same_schedule(name):
    known = SCHEDULES[name]
    made = schedule_from_callable(lambda t: known.rate(t))
    assert torch.allclose(made.drate(TIMES), known.drate(TIMES))
    assert torch.allclose(made.inverse(TIMES), known.inverse(TIMES), atol=1e-9)


def test_names_objects_and_functions_are_understood():
    assert as_schedule("cosine") is SCHEDULES["cosine"] is as_schedule(SCHEDULES["cosine"])
    with pytest.raises(ValueError, match="no schedule 'cosin'"):
        as_schedule("cosin")


@pytest.mark.parametrize(
    "wrong", [lambda t: 1 - t, lambda t: 0.5 * t, lambda t: torch.sin(3 * torch.pi * t / 2).abs(), lambda t: 1.0]
)
def test_a_function_that_is_no_mask_rate_curve_raises(wrong):
    with pytest.raises(ValueError, match="mask rate at time t"):
        as_schedule(wrong)


def test_polynomials_geometric_and_clipped_ranges_are_their_formulas():
    assert torch.allclose(polynomial(3.0).weight(TIMES), 3 / TIMES)
    assert torch.allclose(SCHEDULES["arccos"].rate(TIMES), 2 / torch.pi * torch.arccos(1 - TIMES))
    sigma = 1e-5 ** (1 - TIMES) * 20**TIMES
    assert torch.allclose(SCHEDULES["geometric"].alpha(TIMES), torch.exp(-sigma))
    squeezed = clipped(SCHEDULES["cosine"], 1e-4, 1 - 1e-4)
    assert torch.allclose(squeezed.rate(TIMES), 1e-4 + (1 - 2e-4) * SCHEDULES["cosine"].rate(TIMES))
    assert torch.allclose(squeezed.inverse(squeezed.rate(TIMES)), TIMES)
    log_linear = SCHEDULES["log_linear"]  # MDLM: sigma = -log(1 - (1 - eps) t), weight sigma' / (e^sigma - 1) = 1/t
    assert torch.allclose(-log_linear.alpha(TIMES).log(), -torch.log1p(-(1 - 1e-3) * TIMES))
    assert torch.allclose(log_linear.weight(TIMES), 1 / TIMES)


def test_the_discrete_time_weight_is_the_fraction_unmasked_in_one_step():
    for name, steps in (("cosine", 7), ("linear", 4)):
        schedule = SCHEDULES[name]
        t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        expected = steps * (schedule.alpha(t - 1 / steps) - schedule.alpha(t)) / (1 - schedule.alpha(t))
        assert torch.allclose(DiscreteTime(schedule, steps).weight_at_rate(schedule.rate(t)), expected)
    many = DiscreteTime(SCHEDULES["cosine"], 10**6).weight_at_rate(SCHEDULES["cosine"].rate(TIMES))
    assert torch.allclose(many, SCHEDULES["cosine"].weight(TIMES), rtol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda: polynomial(0.0), lambda: geometric(2.0, 1.0), lambda: clipped(SCHEDULES["linear"], 0.5, 0.2)]
)
def test_impossible_shapes_are_refused(make):
    with pytest.raises(ValueError, match=r"got|must be above 0"):
        make()


def own(t):
    return t**3


PICKLED = {
    **SCHEDULES,
    "polynomial": polynomial(1.5),
    "geometric range": geometric(1e-3, 9.0),
    "clipped": clipped(polynomial(3.0), 0.1, 0.8),
    "own": as_schedule(own),
}


@pytest.mark.parametrize("name", PICKLED)
def test_a_schedule_is_pickled_by_its_parameters(name):
    """Collators and losses with one reach loader workers and checkpoints."""
    schedule, again = PICKLED[name], pickle.loads(pickle.dumps(PICKLED[name]))
    assert again.name == schedule.name
    for curve in ("rate", "drate", "inverse"):
        assert torch.equal(getattr(schedule, curve)(TIMES), getattr(again, curve)(TIMES))
    twice = pickle.loads(pickle.dumps(DiscreteTime(again, 9)))
    assert torch.equal(twice.weight_at_rate(TIMES), DiscreteTime(schedule, 9).weight_at_rate(TIMES))
