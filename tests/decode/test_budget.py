"""Budgets: quotas are per row, sum to the blanks, are never zero, and number at most max_steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.naive.decoding import even_quotas
from unmask.decode.budget import EvenBudget, LeastBudget, ScheduleBudget, quotas
from unmask.ops.schedule import SCHEDULES, cosine, quadratic, schedule_from_callable
from unmask.randomness import Noise


def hesitant(t):
    """A rate that is fast, slow, and fast again: nearly no reveals in the middle."""
    return 4 * (t - 0.5) ** 3 + 0.5


CURVES = [*SCHEDULES.values(), schedule_from_callable(hesitant)]
BUDGETS = [EvenBudget(), LeastBudget(), *(ScheduleBudget(s) for s in CURVES)]


def rows_with(*counts: int) -> torch.Tensor:
    return torch.arange(max(counts))[None, :] < torch.tensor(counts)[:, None]


def plan(budget, counts, max_steps):
    return quotas(budget.plan(rows_with(*counts), torch.full((len(counts),), max_steps), Noise(torch.zeros(len(counts), dtype=torch.int64))))


@pytest.mark.parametrize("budget", BUDGETS, ids=["even", "least", *(s.name for s in CURVES)])
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any), max_steps=st.integers(1, 50))
def test_quotas_sum_to_the_blanks_and_none_is_zero(budget, counts, max_steps):
    given_out = plan(budget, counts, max_steps)
    assert given_out.shape[1] <= max_steps
    for row, blanks in zip(given_out.tolist(), counts, strict=True):
        steps = min(blanks, max_steps)
        assert sum(row) == blanks
        assert min(row[:steps], default=1) >= 1
        assert row[steps:] == [0] * (len(row) - steps)


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=4), max_steps=st.integers(1, 70))
def test_even_quotas_differ_by_at_most_one(counts, max_steps):
    for row, blanks in zip(plan(EvenBudget(), counts, max_steps).tolist(), counts, strict=True):
        own = [q for q in row if q]
        assert own == even_quotas(blanks, max_steps)
        assert max(own) - min(own) <= 1


def test_a_row_plans_alike_beside_any_other():
    together = plan(ScheduleBudget(cosine), [17, 3, 40], 9)
    alone = plan(ScheduleBudget(cosine), [17], 9)
    assert together[0].tolist() == alone[0].tolist()


def test_a_schedule_drives_the_quota_by_hand():
    # quadratic: alpha(t) = 1 - t^2. Of 16 blanks in 4 steps, revealed after each: 16 (1 - (1 - i/4)^2) = 7, 12, 15, 16.
    assert plan(ScheduleBudget(quadratic), [16], 4).tolist() == [[7, 5, 3, 1]]
    # cosine: alpha(t) = 1 - cos(pi/2 (1 - t)): 1.2, 4.7, 9.9, 16.
    assert plan(ScheduleBudget(cosine), [16], 4).tolist() == [[1, 4, 5, 6]]


def test_a_threshold_falls_back_on_one_a_step_and_the_rest_in_the_last():
    assert plan(LeastBudget(), [5], 3).tolist() == [[1, 1, 3]]
    assert plan(LeastBudget(), [3], 9).tolist() == [[1, 1, 1]]
