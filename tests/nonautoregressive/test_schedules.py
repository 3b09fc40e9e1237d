"""Schedules of the wrapper: functions in either time direction, and constants without a likelihood weight."""

import math

import pytest
import torch

from tests.nonautoregressive.networks import MASK_ID, V, rotary, toy
from unmask import NonAutoregressiveWrapper
from unmask.nonautoregressive.schedules import reveal_plan, wrapper_schedule
from unmask.ops.schedule import FixedCountTime, as_schedule, cosine, linear

TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)


@pytest.mark.parametrize(
    ("falling", "rate"),
    [
        (lambda t: 1 - t, linear.rate), (lambda t: torch.cos(t * math.pi / 2), cosine.rate), (lambda t: 1 - t**2, lambda t: 1 - (1 - t) ** 2),
        (lambda t: (1 - t) ** 3, lambda t: t**3),
    ],
)  # fmt: skip
def test_a_falling_function_is_the_mask_rate_with_time_reversed(falling, rate):
    made = wrapper_schedule(falling, weighted=True)
    torch.testing.assert_close(made.rate(TIMES), rate(TIMES))
    torch.testing.assert_close(made.rate(made.inverse(TIMES)), TIMES)
    assert (made.drate(TIMES[1:-1]) >= 0).all()


def test_a_rising_function_is_the_mask_rate():
    torch.testing.assert_close(wrapper_schedule(lambda t: t**2, weighted=True).rate(TIMES), TIMES**2)
    assert (
        wrapper_schedule("cosine", weighted=True) is as_schedule("cosine") is wrapper_schedule(cosine, weighted=False)
    )


def test_both_directions_are_one_schedule_in_training_and_generation():
    ways = [lambda t: torch.cos(t * math.pi / 2), lambda t: torch.cos((1 - t) * math.pi / 2), "cosine"]
    rows = {"input_ids": toy(32), "example_id": torch.arange(32)}
    models = [NonAutoregressiveWrapper(rotary(), mask_id=MASK_ID, schedule=way) for way in ways]
    hidden = [model.hide(rows)["input_ids"] for model in models]
    losses = torch.stack([model(rows).loss.detach() for model in models])
    filled = [model.generate(4, steps=4, seed=0) for model in models]
    for other in (1, 2):
        assert torch.equal(hidden[other], hidden[0]) and torch.equal(filled[other], filled[0])
    torch.testing.assert_close(losses, losses[:1].expand(3))


@pytest.mark.parametrize("constant", [0.25, lambda t: 0.25, lambda t: torch.full_like(t, 0.25), lambda t: t * 0 + 0.25])
def test_a_constant_is_a_mask_rate_without_a_likelihood_weight(constant):
    model = NonAutoregressiveWrapper(
        rotary(length=16),
        mask_id=MASK_ID,
        schedule=constant,
        use_simple_mdlm_loss_weight=False,
        no_replace_prob=0.0,
        random_token_prob=0,
    )
    rows = toy(50, length=16)
    assert ((model.hide(rows)["input_ids"] == MASK_ID).sum(-1) == 4).all()
    model(rows).backward()
    assert reveal_plan(model.schedule) is linear and reveal_plan(cosine) is cosine
    filled = model.generate(3, steps=4, seed=0)
    assert filled.shape == (3, 16) and (filled < V).all()


@pytest.mark.parametrize("curve", [lambda t: 0.2 + 0.6 * t, lambda t: 0.8 - 0.6 * t])
def test_other_end_values_need_no_likelihood_weight(curve):
    made = wrapper_schedule(curve, weighted=False)
    torch.testing.assert_close(made.rate(TIMES), 0.2 + 0.6 * TIMES)
    model = NonAutoregressiveWrapper(rotary(), mask_id=MASK_ID, schedule=curve, use_simple_mdlm_loss_weight=False)
    model(toy()).backward()
    assert (model.generate(2, seed=0) < V).all()


def test_the_likelihood_weight_of_a_reversed_function_is_that_of_the_schedule():
    k = torch.arange(1, 17, dtype=torch.float64) / 16
    reversed_cosine = wrapper_schedule(lambda t: torch.cos(t * math.pi / 2), weighted=True)
    torch.testing.assert_close(
        FixedCountTime(reversed_cosine, 16).weight_at_rate(k), FixedCountTime(cosine, 16).weight_at_rate(k)
    )


def test_options_are_attributes():
    model = NonAutoregressiveWrapper(
        rotary(), mask_id=MASK_ID, no_replace_prob=0.2, random_token_prob=0.05, self_cond=True
    )
    assert (model.no_replace_prob, model.random_token_prob, model.self_cond) == (0.2, 0.05, True)
