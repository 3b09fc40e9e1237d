"""Intervals that cover the truth as often as they say."""

import math

import numpy as np
import pytest
from scipy import stats

from unmask.evaluate.estimate import Estimate, proportion, ratio, student_quantile


def test_the_interval_has_its_nominal_coverage():
    draw = np.random.default_rng(0)
    for documents, least in ((8, 0.92), (60, 0.935)):
        covered = 0
        for _ in range(2000):
            tokens = draw.integers(20, 60, documents)
            rate = draw.gamma(4.0, 0.5, documents)  # each document its own; mean 2
            nats = tokens * rate + draw.normal(0, 3.0, (3, documents))  # and Monte-Carlo noise
            found = ratio(nats, tokens)
            covered += found.low <= 2.0 <= found.high
        assert least < covered / 2000 < 0.965


def test_the_monte_carlo_error_is_the_spread_of_repetitions():
    draw = np.random.default_rng(1)
    tokens = draw.integers(5, 50, 30)
    truth = tokens * draw.gamma(4.0, 0.5, 30)
    runs = [ratio(truth + draw.normal(0, 3.0, (4, 30)), tokens) for _ in range(1000)]
    spread = np.std([run.value for run in runs])
    assert np.sqrt(np.mean([run.monte_carlo_error**2 for run in runs])) == pytest.approx(spread, rel=0.08)


def test_by_hand():
    found = ratio(np.array([[2.0, 6.0]]), np.array([1, 3]))
    assert found.value == 2.0 and found.low == found.high == 2.0
    found = ratio(np.array([[1.0, 3.0]]), np.array([1, 1]))  # residuals -1, 1: variance 2 * 2 / 4
    assert found.value == 2.0 and found.high - 2.0 == pytest.approx(stats.t.ppf(0.975, 1) * 1.0)


def test_documents_of_no_tokens_do_not_count():
    tokens, nats = np.array([3, 5, 9]), np.array([[4.0, 9.0, 20.0]])
    one, two = ratio(nats, tokens), ratio(np.append(nats, [[0.0]], 1), np.append(tokens, 0))
    assert (one.value, one.low, one.high) == (two.value, two.low, two.high)


def test_one_document_tells_nothing_about_others():
    found = ratio(np.array([[2.0]]), np.array([4]))
    assert found.value == 0.5 and math.isnan(found.low)
    assert found.as_dict() == {"value": 0.5, "low": None, "high": None, "monte_carlo_error": None}
    assert str(found) == "0.5" and "95%" in str(Estimate(1.0, 0.5, 1.5))


def test_infinite_perplexity_is_none_in_json():
    assert Estimate(1e6, 1.0, 1e7, 0.1).exponential().as_dict()["value"] is None


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 20, 200])
@pytest.mark.parametrize("p", [0.9, 0.975, 0.995])
def test_student_quantiles(degrees, p):
    assert student_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=0.03 if degrees < 5 else 1e-3)


def test_nothing_to_divide_by():
    with pytest.raises(ValueError, match="denominator of this ratio is zero"):
        ratio(np.array([[1.0]]), np.array([0]))


def test_a_proportion_has_wilsons_interval():
    found = proportion(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    for right, asked in ((8, 10), (0, 7), (7, 7), (501, 1000), (3, 400)):
        theirs = stats.binomtest(right, asked).proportion_ci(0.95, "wilson")
        assert (proportion(right, asked).low, proportion(right, asked).high) == pytest.approx(
            (theirs.low, theirs.high), abs=1e-9
        )
    assert proportion(0, 1000).low == 0 and proportion(1000, 1000).high == 1 and proportion(8, 10, 0.5).low > found.low
    for right, asked in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="no more successes than cases"):
            proportion(right, asked)
