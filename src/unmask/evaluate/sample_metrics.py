"""Figures of samples alone, without any network: variety, repetition, and agreement with references.

    distinct-n     distinct n-grams / n-grams, over all samples together       Li et al. 2016, 1510.03055, who divide by tokens
    repetition-n   mean over samples of 1 - distinct n-grams / n-grams         Welleck et al. 2020, 1908.04319: seq-rep-n
    entropy        mean over samples of -sum p log p of its own tokens         Zheng et al. 2024, 2409.02908
    exact match    samples equal to their references
    infill         blanks filled as in the reference

A sample is a sequence of tokens: words, characters or ids. One with fewer than ``n`` tokens has no n-gram, and adds nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from unmask.evaluate.estimate import Estimate, proportion, ratio

Tokens = Sequence[Hashable]


def ngrams(tokens: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    """Return the n-grams of a sample, in order.

    Raises:
        ValueError: ``n`` below 1.
    """
    if n < 1:
        raise ValueError(f"n={n} is the length of n-grams: choose 1 or more.")
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def distinct(samples: Sequence[Tokens], n: int) -> float:
    """Return distinct-n: the number of distinct n-grams of all samples over the number of their n-grams.

    It falls with the number of samples, so only sets of one size are comparable. Without an n-gram it is NaN.

    Examples:
        >>> distinct(["aba", "ab"], 2)  # ab, ba | ab
        0.6666666666666666
    """
    found = Counter(gram for sample in samples for gram in ngrams(sample, n))
    return len(found) / found.total() if found else math.nan


def repetition(samples: Sequence[Tokens], n: int = 4) -> Estimate:
    """Return repetition-n: the mean over samples of the fraction of n-grams that repeat an earlier one of the sample.

    Examples:
        >>> repetition(["abab", "abcd"], 2).value  # (1 / 3 + 0) / 2
        0.16666666666666669
    """
    each = [1 - len(set(grams)) / len(grams) for sample in samples if (grams := ngrams(sample, n))]
    return _mean(each)


def entropy(samples: Sequence[Tokens]) -> Estimate:
    """Return the mean over samples of the entropy of their own token frequencies, in nats.

    Low entropy shows degenerate samples, which a low generative perplexity alone rewards.

    Examples:
        >>> round(entropy(["aabb", "aaaa"]).value, 4)  # (log 2 + 0) / 2
        0.3466
    """
    return _mean([_entropy(Counter(sample)) for sample in samples if len(sample)])


def _entropy(counts: Counter[Hashable]) -> float:
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


def _mean(values: Sequence[float]) -> Estimate:
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    return ratio(np.array([values], dtype=np.float64), np.ones(len(values)))


def exact_match(samples: Sequence[str], references: Sequence[str]) -> Estimate:
    """Return the fraction of samples equal to their references, up to space at both ends, with Wilson's interval.

    Raises:
        ValueError: no samples, or another number of references.
    """
    _paired(samples, references)
    equal = sum(a.strip() == b.strip() for a, b in zip(samples, references, strict=True))
    return proportion(equal, len(samples))


def infill_accuracy(
    prompts: Sequence[str], samples: Sequence[str], references: Sequence[str], mask: str = "[MASK]"
) -> Estimate:
    """Return the fraction of blanks that are filled as in the references, with an interval over samples.

    Adjacent blanks count as one, because their border is not visible in the text.

    Args:
        prompts: texts with blanks: ``[MASK]``, ``[MASK:3]`` or ``[MASK:1-3]``.
        samples: the filled texts.
        references: the true texts.
        mask: mask token of the prompts.

    Raises:
        ValueError: other numbers of texts, no blank, or a reference that does not agree with its prompt.

    Examples:
        >>> infill_accuracy(["The [MASK] sees a [MASK]."], ["The cat sees a dog."], ["The cat sees a cow."]).value
        0.5
    """
    _paired(samples, references)
    _paired(samples, prompts)
    right, blanks = [], []
    for prompt, sample, reference in zip(prompts, samples, references, strict=True):
        truth = fillings(prompt, reference, mask)
        if truth is None:
            raise ValueError(
                f"The reference {reference!r} does not agree with its prompt {prompt!r} outside the blanks."
            )
        found = fillings(prompt, sample, mask)
        right.append(0 if found is None else sum(a == b for a, b in zip(found, truth, strict=True)))
        blanks.append(len(truth))
    if not any(blanks):
        raise ValueError(
            f"No prompt has a blank {mask}, so there is nothing to compare: name the field of the prompts."
        )
    return ratio(np.array([right], dtype=np.float64), np.array(blanks))


def fillings(prompt: str, text: str, mask: str = "[MASK]") -> list[str] | None:
    """Return what a text has at the blanks of a prompt, or None if it differs elsewhere.

    Examples:
        >>> fillings("a [MASK] [MASK:2]d", "a b cd")
        ['b', 'c']
    """
    blank = rf"(?:{re.escape(mask[:-1])}(?::\d+(?:-\d+)?)?{re.escape(mask[-1])})+"
    parts = re.split(blank, prompt)
    match = re.fullmatch("(.*?)".join(map(re.escape, parts)), text, flags=re.DOTALL)
    return None if match is None else list(match.groups())


def _paired(samples: Sequence[str], others: Sequence[str]) -> None:
    if not samples or len(samples) != len(others):
        raise ValueError(
            f"There are {len(samples)} samples and {len(others)} texts to compare them with: give one for each, and one or more."
        )
