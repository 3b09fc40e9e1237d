"""The profile of a step adds up and finds the products."""

import pytest
from benchmarks.anatomy import KINDS, anatomy

from unmask.measure.flops import TINY
from unmask.measure.step import ours
from unmask.measure.work import masked_rows


def test_shares_add_up():
    shares = anatomy(ours(TINY, masked_rows(2, 32, TINY.vocabulary)), steps=1)
    assert set(shares) == {*KINDS, "other"} and sum(shares.values()) == pytest.approx(1)
    assert shares["matrix products"] > 0 and shares["optimiser"] > 0 and shares["attention"] > 0
