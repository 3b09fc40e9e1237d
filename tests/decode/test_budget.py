"""Budgets: quotas are per row, sum to the masked positions, are never zero, and number at most max_steps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive.decoding import even_quotas
from unmask.decode.budget import (
    AncestralBudget,
    MinOnePerStep,
    OnePerStep,
    ScheduleBudget,
    ScheduleWithRemasking,
    UniformBudget,
    quotas,
)
from unmask.ops.schedule import SCHEDULES, cosine, quadratic, schedule_from_callable
from unmask.randomness import Noise


def hesitant(t):
    """A schedule that is fast, slow, and fast again: almost no unmasking in the middle."""
    return 4 * (t - 0.5) ** 3 + 0.5


CURVES = [*SCHEDULES.values(), schedule_from_callable(hesitant)]
BUDGETS = [UniformBudget(), MinOnePerStep(), AncestralBudget(cosine), *(ScheduleBudget(s) for s in CURVES)]


def rows_with(*counts: int) -> torch.Tensor:
    return torch.arange(max(counts))[None, :] < torch.tensor(counts)[:, None]


def plan(budget, counts, max_steps):
    return quotas(
        budget.plan(
            rows_with(*counts),
            torch.full((len(counts),), max_steps),
            Noise(torch.zeros(len(counts), dtype=torch.int64)),
        )
    )


@pytest.mark.parametrize("budget", BUDGETS, ids=["even", "least", "ancestral", *(s.name for s in CURVES)])
@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any), max_steps=st.integers(1, 50))
def test_quotas_sum_to_the_blanks_and_none_is_zero(budget, counts, max_steps):
    given_out = plan(budget, counts, max_steps)
    assert given_out.shape[1] <= max_steps
    for row, blanks in zip(given_out.tolist(), counts, strict=True):
        assert sum(row) == blanks
        steps = sum(q > 0 for q in row)
        assert min(row[:steps], default=1) >= 1  # the zeros come after all the others
        if not isinstance(budget, AncestralBudget):
            assert steps == min(blanks, max_steps)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), max_steps=st.integers(1, 70))
def test_even_quotas_differ_by_at_most_one(counts, max_steps):
    for row, blanks in zip(plan(UniformBudget(), counts, max_steps).tolist(), counts, strict=True):
        own = [q for q in row if q]
        assert own == even_quotas(blanks, max_steps)
        assert max(own) - min(own) <= 1


def test_a_rows_plan_is_independent_of_other_rows():
    together = plan(ScheduleBudget(cosine), [17, 3, 40], 9)
    alone = plan(ScheduleBudget(cosine), [17], 9)
    assert together[0].tolist() == alone[0].tolist()


def test_a_schedule_drives_the_quota_by_hand():
    # quadratic: alpha(t) = 1 - t^2. Of 16 blanks in 4 steps, revealed after each: 16 (1 - (1 - i/4)^2) = 7, 12, 15, 16.
    assert plan(ScheduleBudget(quadratic), [16], 4).tolist() == [[7, 5, 3, 1]]
    # cosine: alpha(t) = 1 - cos(pi/2 (1 - t)): 1.2, 4.7, 9.9, 16.
    assert plan(ScheduleBudget(cosine), [16], 4).tolist() == [[1, 4, 5, 6]]


def test_min_one_per_step_leaves_the_rest_to_the_last_step():
    assert plan(MinOnePerStep(), [5], 3).tolist() == [[1, 1, 3]]
    assert plan(MinOnePerStep(), [3], 9).tolist() == [[1, 1, 1]]


def test_the_number_of_ancestral_steps_is_its_expectation():
    # N (1 - (1 - 1/N)^M) evaluations are expected of the linear schedule.
    rows, blanks, steps = 4_000, 6, 8
    given_out = quotas(
        AncestralBudget().plan(
            torch.ones(rows, blanks, dtype=torch.bool), torch.full((rows,), steps), Noise(torch.arange(rows))
        )
    )
    forward_passes = (given_out > 0).sum(-1).double()
    expected = steps * (1 - (1 - 1 / steps) ** blanks)
    assert abs(forward_passes.mean() - expected) < 4 * forward_passes.std() / rows**0.5


def test_ancestral_fractions_follow_the_schedule():
    # One step of a great many blanks: cosine reveals alpha(1/2) = 1 - cos(pi/4) of them in the first half.
    plan = AncestralBudget(cosine).plan(
        torch.ones(1, 20_000, dtype=torch.bool), torch.tensor([2]), Noise(torch.tensor([1]))
    )
    assert abs(plan[0, 0] / 20_000 - (1 - 2**-0.5)) < 0.02


def test_one_per_step_refuses_too_few_steps():
    assert plan(OnePerStep(), [3, 1], 3).tolist() == [[1, 1, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="a row has 4 and max_steps is 3"):
        plan(OnePerStep(), [4], 3)


def test_schedule_with_remasking_takes_all_steps_and_may_hold():
    assert plan(ScheduleWithRemasking(), [2], 8).cumsum(1).tolist() == [[0, 0, 1, 1, 1, 2, 2, 2]]
    held = plan(ScheduleWithRemasking(hold_at=0.5, hold_for=0.5), [8], 16).cumsum(1).tolist()[0]
    assert held == [1, 2, 3, *[4] * 9, 5, 6, 7, 8]
