"""Scores of a classifier: F1, precision and recall of every class, macro F1 and accuracy, with intervals over documents.

    F1 of class c = 2 TP / (2 TP + FP + FN)        macro F1 = mean over the classes that occur in truth or predictions

A document may hold several cases, such as the words of a sentence, and they are not independent. The percentile bootstrap (Efron 1979)
therefore draws whole documents with replacement. At 0 and 1 all draws are equal, and Wilson's limit for a proportion of documents stands
in: F1 is ``2 s / (1 + s)`` of ``s = TP / (TP + FP + FN)``.

Shapes: ``N`` cases, ``D`` documents, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unmask.evaluate.estimate import Estimate, proportion


@dataclass(frozen=True, eq=False)
class ClassScores:
    """The scores of predictions against true classes.

    Attributes:
        names: the ``K`` classes.
        confusion: int64 ``[K, K]``, number of cases of each true class (row) and predicted class (column).
        accuracy, macro_f1: over all cases, with 95% intervals over documents.
        f1: of each class, with intervals; NaN for a class that occurs in neither truth nor predictions.
        documents: number of documents.
    """

    names: tuple[str, ...]
    confusion: Int[np.ndarray, "classes classes"]
    accuracy: Estimate
    macro_f1: Estimate
    f1: tuple[Estimate, ...]
    documents: int

    @property
    def precision(self) -> Float[np.ndarray, " classes"]:
        """Correct cases of each class over those predicted as it; NaN without any."""
        return _over(self.confusion.diagonal(), self.confusion.sum(0))

    @property
    def recall(self) -> Float[np.ndarray, " classes"]:
        """Correct cases of each class over its true cases; NaN without any."""
        return _over(self.confusion.diagonal(), self.confusion.sum(1))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object, with None for NaN."""
        classes = {}
        for number, name in enumerate(self.names):
            shares = {"precision": self.precision[number], "recall": self.recall[number]}
            classes[name] = {
                "f1": self.f1[number].as_dict(),
                **{key: None if np.isnan(share) else float(share) for key, share in shares.items()},
                "cases": int(self.confusion[number].sum()),
            }
        return {
            "macro_f1": self.macro_f1.as_dict(),
            "accuracy": self.accuracy.as_dict(),
            "classes": classes,
            "confusion": self.confusion.tolist(),
            "documents": self.documents,
        }


def class_scores(
    truth: Sequence[int] | NDArray[np.int64],
    predicted: Sequence[int] | NDArray[np.int64],
    documents: Sequence[int] | NDArray[np.int64],
    names: Sequence[str],
    samples: int = 1000,
    seed: int = 0,
) -> ClassScores:
    """Compare predicted with true classes.

    Args:
        truth, predicted: class of each case, in ``[0, K)``, ``[N]``.
        documents: document of each case, ``[N]``.
        names: the ``K`` classes.
        samples: bootstrap samples.
        seed: random seed of the bootstrap.

    Raises:
        ValueError: no cases, or lists of different lengths.

    Examples:
        >>> scores = class_scores([0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 2, 3], ["no", "yes"])
        >>> [round(each.value, 3) for each in scores.f1], scores.accuracy.value, scores.confusion.tolist()
        ([0.667, 0.8], 0.75, [[1, 1], [0, 2]])
    """
    true, guess, places = (np.asarray(each, dtype=np.int64) for each in (truth, predicted, documents))
    if not len(true) or not len(true) == len(guess) == len(places):
        raise ValueError(
            f"Scores need one true class, one prediction and one document for each case, and at least one case; got "
            f"{len(true)}, {len(guess)} and {len(places)}."
        )
    size, right = len(names), true == guess
    _, place, held = np.unique(places, return_inverse=True, return_counts=True)

    def totals(weights: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Return accuracy and the F1 of each class, for a weight of each case."""
        correct = np.bincount(true[right], weights[right], size)
        both = np.bincount(true, weights, size) + np.bincount(guess, weights, size)
        return float(correct.sum() / weights.sum()), _over(2 * correct, both)

    accuracy, f1 = totals(np.ones(len(true)))
    draws = np.random.default_rng(seed)
    drawn_accuracy, drawn_f1 = np.empty(samples), np.empty((samples, size))
    for number in range(samples):
        times = np.bincount(draws.integers(len(held), size=len(held)), minlength=len(held))
        drawn_accuracy[number], drawn_f1[number] = totals(times[place])
    confusion = np.bincount(true * size + guess, minlength=size * size).reshape(size, size)
    by_class = []
    for number, (value, drawn) in enumerate(zip(f1, drawn_f1.T, strict=True)):
        concerned = len(np.unique(place[(true == number) | (guess == number)]))
        by_class.append(_estimate(float(value), drawn, len(held), _f1_limits(value, concerned)))
    occurring = [each for each in by_class if not np.isnan(each.value)]
    macro = float(np.nanmean(f1))
    limits = tuple(float(np.mean([getattr(each, side) for each in occurring])) for side in ("low", "high"))
    extreme = proportion(round(accuracy) * len(held), len(held))
    return ClassScores(
        tuple(names),
        confusion,
        _estimate(accuracy, drawn_accuracy, len(held), (extreme.low, extreme.high)),
        _estimate(macro, np.nanmean(drawn_f1, axis=1), len(held), (limits[0], limits[1])),
        tuple(by_class),
        len(held),
    )


def _f1_limits(value: float, documents: int) -> tuple[float, float]:
    """Return the limits of an F1 of 0 or 1 from the number of documents with a case of the class."""
    if value not in (0.0, 1.0):
        return value, value
    share = proportion(int(value) * documents, documents)
    return 2 * share.low / (1 + share.low), 2 * share.high / (1 + share.high)


def _over(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ratio, NaN where the denominator is zero."""
    below = denominator.astype(np.float64)
    found: NDArray[np.float64] = np.full(len(below), np.nan)
    np.divide(numerator, below, out=found, where=below > 0)
    return found


def _estimate(value: float, drawn: NDArray[np.float64], documents: int, limits: tuple[float, float]) -> Estimate:
    """Return a value with the central 95% of its bootstrap samples, or with ``limits`` at 0 and 1; one document has no interval."""
    found = drawn[~np.isnan(drawn)]
    if documents < 2 or np.isnan(value) or not len(found):
        return Estimate(value, float("nan"), float("nan"))
    low, high = limits if value in (0.0, 1.0) else np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
