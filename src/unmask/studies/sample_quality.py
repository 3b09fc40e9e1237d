"""``measure_samples``: the quality of generated texts, without the model that generated them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from unmask.evaluate.causal_judge import CausalJudge, mauve
from unmask.evaluate.estimate import proportion
from unmask.evaluate.sample_metrics import distinct, entropy, exact_match, infill_accuracy, repetition
from unmask.tasks.catalogue import TASKS
from unmask.text.answer_matching import Progress, Stages

UNITS = ("words", "characters", "tokens")
DISTINCT, REPEATED = (1, 2, 3), 4


def measure_samples(
    samples: Sequence[str],
    *,
    references: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    mask: str = "[MASK]",
    judge: str | CausalJudge | None = None,
    humans: Sequence[str] | None = None,
    task: str | None = None,
    rows: Sequence[Mapping[str, str]] | None = None,
    unit: str = "words",
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    stages: Stages | None = None,
) -> dict[str, Any]:
    """Measure the quality of samples: variety, repetition, agreement with references, and a judge's opinion.

    Args:
        samples: the generated texts.

    Other Parameters:
        references: the true text of each sample, for the exact match.
        prompts: the text with blanks of each sample; with ``references``, for the accuracy of infilling.
        mask: blank of the prompts.
        judge: causal language model of ``transformers`` (folder or hub name), for generative perplexity.
        humans: other texts, which MAUVE compares the samples with under the judge.
        task: name of a task with checkable answers; ``rows`` are its problems, and samples their answers.
        rows: the row of each sample.
        unit: what n-grams and entropy count: words, characters, or tokens of the judge.
        seed: random seed of the clusters of MAUVE.
        device: device of the judge.
        dtype: dtype of its weights.
        stages: progress, per stage; None = silent.

    Returns:
        A JSON object with ``samples``, ``unit``, and the figures that the arguments allow.

    Raises:
        ValueError: no samples, other numbers of texts, an unknown unit or task, or a judge that is missing.
        ImportError: MAUVE's package is not installed.

    Examples:
        >>> import unmask
        >>> report = unmask.measure_samples(["a cat", "a dog"], references=["a cat", "a cow"])
        >>> report["exact_match"]["value"], report["distinct_1"]
        (0.5, 0.75)
    """
    if not samples:
        raise ValueError("There are no samples to measure: give one or more.")
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r} is none of {', '.join(UNITS)}: choose one of them.")
    if judge is None and (unit == "tokens" or humans is not None):
        what = "Tokens are those of a judge" if unit == "tokens" else "MAUVE needs a judge"
        raise ValueError(f"{what}: name a causal language model, such as judge='gpt2'.")
    if isinstance(judge, str):
        judge = CausalJudge.open(judge, device, dtype)
    stages = stages or _silent
    tokens = _tokens(samples, unit, judge)
    report: dict[str, Any] = {"samples": len(samples), "unit": unit, "mean_length": sum(map(len, tokens)) / len(tokens)}
    for n in DISTINCT:
        value = distinct(tokens, n)
        report[f"distinct_{n}"] = None if value != value else value
    report[f"repetition_{REPEATED}"] = repetition(tokens, REPEATED).as_dict()
    report["entropy_nats"] = entropy(tokens).as_dict()
    if references is not None:
        report["exact_match"] = exact_match(samples, references).as_dict()
        if prompts is not None:
            report["infill_accuracy"] = infill_accuracy(prompts, samples, references, mask).as_dict()
    if task is not None:
        report["valid"] = _valid(task, samples, rows)
    if judge is not None:
        with stages("judging samples") as progress:
            report["generative_perplexity"] = judge.perplexity(samples, progress).as_dict()
        if humans is not None:
            found = []
            for title, texts in (("features of samples", samples), ("features of other texts", humans)):
                with stages(title) as progress:
                    found.append(judge.features(texts, progress))
            report["mauve"] = mauve(found[0], found[1], seed)
    return report


def _tokens(samples: Sequence[str], unit: str, judge: CausalJudge | None) -> Sequence[Sequence[Hashable]]:
    if unit == "tokens":
        assert judge is not None, "checked by the caller"
        return judge.tokens(samples)
    return [text.split() if unit == "words" else list(text) for text in samples]


def _valid(task: str, samples: Sequence[str], rows: Sequence[Mapping[str, str]] | None) -> dict[str, Any]:
    """Return the fraction of samples that keep the rules of a task."""
    chosen = TASKS.choose(task)
    if not hasattr(chosen, "is_valid"):
        raise ValueError(f"Answers of the task {task} have no rules to check: choose another task.")
    if rows is None or len(rows) != len(samples):
        raise ValueError(
            f"The task {task} checks {len(samples)} samples against {len(rows or ())} rows: give the row of each sample."
        )
    good = sum(chosen.is_valid(row, sample) for row, sample in zip(rows, samples, strict=True))
    return proportion(good, len(samples)).as_dict()


def _silent(title: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)
