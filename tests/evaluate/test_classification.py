"""Scores of a classifier: equal to scikit-learn and to a loop, with intervals over documents that cover."""

import numpy as np
import pytest

from unmask.evaluate.classification import class_scores


def naive(truth, predicted, size):
    """F1, precision and recall of each class, by counting."""
    found = []
    for c in range(size):
        pairs = list(zip(truth, predicted, strict=True))
        tp, fp, fn = (
            sum(t == c and p == c for t, p in pairs),
            sum(t != c and p == c for t, p in pairs),
            sum(t == c and p != c for t, p in pairs),
        )
        shares = [(2 * tp, 2 * tp + fp + fn), (tp, tp + fp), (tp, tp + fn)]
        found.append([above / below if below else np.nan for above, below in shares])
    return np.array(found).T


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_a_loop_and_of_scikit_learn(seed):
    draw = np.random.default_rng(seed)
    truth, predicted = draw.integers(3, size=(2, 40))  # class 3 occurs nowhere
    scores = class_scores(truth, predicted, np.arange(40), list("abcd"), samples=10)
    f1, precision, recall = naive(truth, predicted, 4)
    assert np.allclose([each.value for each in scores.f1], f1, equal_nan=True)
    assert np.allclose(scores.precision, precision, equal_nan=True)
    assert np.allclose(scores.recall, recall, equal_nan=True)
    assert np.isclose(scores.macro_f1.value, np.nanmean(f1)) and np.isnan(f1[3])
    metrics = pytest.importorskip("sklearn.metrics")
    assert np.isclose(scores.macro_f1.value, metrics.f1_score(truth, predicted, average="macro"))
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(truth, predicted, labels=range(4)))
    assert np.isclose(scores.accuracy.value, metrics.accuracy_score(truth, predicted))


def drawn(seed, documents, size=20):
    """Cases of documents of which some are easy and some hard: accuracy 0.95 or 0.45, and two classes."""
    draw = np.random.default_rng(seed)
    place = np.repeat(np.arange(documents), size)
    truth = draw.integers(2, size=len(place))
    share = draw.choice([0.95, 0.45], size=documents)[place]
    return truth, np.where(draw.random(len(place)) < share, truth, 1 - truth), place


def test_the_interval_over_documents_covers_and_one_over_cases_does_not():
    """The limits are three standard errors from the coverages of 300 other data sets, 0.91 and 0.54 (40 documents are few)."""
    covered = {"documents": 0, "cases": 0}
    for seed in range(100):
        truth, predicted, place = drawn(seed, 40)
        for unit, number in (("documents", place), ("cases", np.arange(len(place)))):
            f1 = class_scores(truth, predicted, number, "ab", samples=100).macro_f1
            covered[unit] += f1.low <= 0.7 <= f1.high  # by symmetry macro F1 is the mean accuracy
    assert covered["documents"] >= 83 and covered["cases"] <= 69, covered


def test_perfect_and_hopeless_predictions_have_wilsons_limits():
    truth = np.arange(40) % 2
    perfect, hopeless = (class_scores(truth, p, np.arange(40), "ab", samples=10) for p in (truth, 1 - truth))
    assert perfect.accuracy.value == perfect.accuracy.high == 1 and 0.9 < perfect.accuracy.low < 0.92
    assert hopeless.accuracy.value == hopeless.accuracy.low == 0 and 0.08 < hopeless.accuracy.high < 0.1
    for f1 in (perfect.macro_f1, *perfect.f1):
        assert f1.high == 1 and 0.9 < f1.low < 0.95  # Wilson of 20 of 20 is 0.839, F1 is 2 s / (1 + s)
    assert all(f1.low == 0 < f1.high < 0.3 for f1 in (hopeless.macro_f1, *hopeless.f1))


def test_the_seed_decides_the_interval_and_one_document_has_none():
    truth, predicted, place = drawn(0, 30)
    first, again, other = (class_scores(truth, predicted, place, "ab", 50, seed) for seed in (0, 0, 1))
    assert first.as_dict() == again.as_dict() and first.macro_f1 != other.macro_f1
    assert first.macro_f1.value == other.macro_f1.value and first.documents == 30
    alone = class_scores(truth[:5], predicted[:5], place[:5], "ab", 50).as_dict()
    assert alone["macro_f1"]["low"] is None and alone["accuracy"]["value"] is not None


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="got 2, 1 and 2"):
        class_scores([0, 1], [0], [0, 1], "ab")
    with pytest.raises(ValueError, match="at least one case"):
        class_scores([], [], [], "ab")
