"""Evaluation of a trained model on unseen text: likelihood bound, accuracy and baselines in one report.

``unmask evaluate``, the demonstrations and ``TrainedModel.evaluate`` all call :func:`evaluate_model`.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unmask.contracts import is_autoregressive
from unmask.data.corpus.sources import Source
from unmask.data.store.token_store import TokenStore
from unmask.evaluate.baselines import NeighbourModel, UnigramModel
from unmask.evaluate.by_class import accuracy_by_class
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.metrics import masked_accuracy
from unmask.evaluate.noise_curve import curve_cells, noise_curve
from unmask.evaluate.remarks import exclusions, with_interval
from unmask.evaluate.single_masked import single_masked
from unmask.evaluate.trace_classes import TRACE_CLASSES, TraceClasses
from unmask.text.answer_matching import Progress, Stages, answer_figures
from unmask.text.evaluation_setting import Evaluable, evaluation_setting, stores_of

if TYPE_CHECKING:
    pass

UNITS = ("bits_per_byte", "bits_per_word", "bits_per_token")


class ReportTable(NamedTuple):
    """A table of a report: the first column is text, the others are figures."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class EvaluationReport(dict[str, Any]):
    """The figures of an evaluation: a mapping for JSON that prints as text and renders in notebooks.

    Keys:
        model, step, data: checkpoint, its optimiser steps, and the evaluated text.
        models: name -> likelihood bound of the trained model and of each baseline, as ``Nelbo.as_dict``.
        accuracy: first guesses of the trained model at masked tokens.
        noise_levels: loss and accuracy at evenly spaced noise levels, if asked for.
        single_masked: first guesses and bits at tokens masked alone; with ``single`` only.
        classes: accuracy by class of token; for instruction traces only.
        answers: exact match and conditional bound of the answers; for supervised runs, instead of ``models`` and ``accuracy``.
        bits_per_byte_saved: name of a baseline -> paired difference to the trained model, if the bytes are known.

    Examples:
        >>> import unmask
        >>> bits = {"value": 2.0, "low": 1.5, "high": 2.5}
        >>> trained = {"documents": 3, "tokens": 40, "unscored_tokens": 0, "altered_documents": 0, "bytes": 0}
        >>> trained |= {"bits_per_token": bits, "perplexity_per_token": {"value": 4.0}}
        >>> accuracy = {"rate": 0.15, "top_1": {"value": 0.5}, "top_5": {"value": 0.75}}
        >>> report = unmask.EvaluationReport(models={"trained": trained}, accuracy=accuracy)
        >>> print(str(report).splitlines()[2])
        trained                2.000 ± 0.500
    """

    def parts(self) -> Iterator[ReportTable | str]:
        """Yield the tables and sentences of the report in reading order."""
        if "answers" in self:
            yield self._answers()
            return
        trained = self["models"]["trained"]
        units = [unit for unit in UNITS if unit in trained]
        rows = [[name, *(with_interval(bound[unit]) for unit in units)] for name, bound in self["models"].items()]
        perplexity = [
            "" if unit == "bits_per_byte" else f"{trained['perplexity_per_' + unit.split('_')[-1]]['value']:,.1f}"
            for unit in units
        ]
        top = self["accuracy"]
        yield ReportTable(
            f"{'Upper bound on the negative' if top['rate'] < 1.0 else 'Negative'} log-likelihood: {trained['documents']:,} documents, {trained['tokens']:,} tokens, "
            f"{trained['unscored_tokens']:,} unscored (± = 95% interval over documents)",
            ["model", *(unit.replace("_", " ") for unit in units)],
            [*rows, ["perplexity (trained)", *perplexity]],
        )
        if remark := exclusions(trained):
            yield remark
        given = f"At mask rate {top['rate']:.0%}" if top["rate"] < 1.0 else "Given the tokens before it"
        yield (
            f"{given}, the most likely token is correct for {top['top_1']['value']:.1%} of the {'masked ' * (top['rate'] < 1.0)}"
            f"tokens, and one of the five most likely for {top['top_5']['value']:.1%}."
        )
        if "noise_levels" in self:
            yield ReportTable(*curve_cells(self["noise_levels"]))
        if "single_masked" in self:
            single = self["single_masked"]
            yield (
                f"Of {single['tokens']:,} tokens masked alone, {single['top_1']['value']:.1%} have the true token first "
                f"({with_interval(single['bits_per_token'])} bits per token, pseudo-perplexity "
                f"{single['perplexity_per_token']['value']:.2f})."
            )
        if "classes" in self:
            yield self._classes()
        for name, saved in self.get("bits_per_byte_saved", {}).items():
            yield f"Bits per byte saved against {name}: {with_interval(saved)} (paired)."

    def _answers(self) -> ReportTable:
        answers = self["answers"]
        match, perplexity = answers["exact_match"], answers["perplexity_per_token"]["value"]
        return ReportTable(
            f"Answers given their prompts: {answers['rows']:,} rows, {answers['tokens']:,} tokens (95% intervals over rows)",
            ["model", "exact match", "nats per token", "perplexity"],
            [
                [
                    "trained",
                    f"{match['value']:.1%} ({match['low']:.1%} to {match['high']:.1%})",
                    with_interval(answers["nats_per_token"]),
                    "" if perplexity is None else f"{perplexity:,.1f}",
                ]
            ],
        )

    def _classes(self) -> ReportTable:
        names = [name for name in self["models"] if name != "unigram"]  # the weaker baseline is in the JSON
        rows = []
        for kind, figures in self["classes"].items():
            values = [figures["models"][name] for name in names]
            cells = [f"{value['accuracy']:.1%}, {value['bits_per_token']:.2f}" for value in values]
            rows.append([kind, f"{figures['tokens']:,}", *cells])
        return ReportTable(
            f"Masked tokens by class at mask rate {self['accuracy']['rate']:.0%}: first guess correct, bits per token",
            ["class", "tokens", *names],
            rows,
        )

    def __str__(self) -> str:
        lines: list[str] = []
        for part in self.parts():
            if isinstance(part, str):
                lines.append(part)
                continue
            widths = [max(map(len, column)) for column in zip(part.columns, *part.rows, strict=True)]
            lines.append(part.title)
            for row in (part.columns, *part.rows):
                first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                lines.append("  ".join([row[0].ljust(len(first)), *others]).rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        drawn = []
        for part in self.parts():
            if isinstance(part, str):
                drawn.append(f"<p>{html.escape(part)}</p>")
                continue
            head, *body = (
                "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
                for tag, row in (("th", part.columns), *(("td", row) for row in part.rows))
            )
            rows = "".join(f"<tr>{row}</tr>" for row in (head, *body))
            drawn.append(f"<p>{html.escape(part.title)}</p><table>{rows}</table>")
        return "".join(drawn)


def evaluate_model(
    trained: Evaluable,
    data: str | Path | Source | Sequence[str] | None = None,
    *,
    samples: int = 4,
    documents: int | None = None,
    baselines: bool = True,
    curve: int | None = None,
    single: bool = False,
    seed: int = 0,
    stages: Stages | None = None,
) -> EvaluationReport:
    """Evaluate a trained model: any-order likelihood bound and masked accuracy, beside counting baselines.

    Of a supervised run, evaluate the last answer of each row instead: exact match of the greedy answer, and the bound given
    the prompt.

    Args:
        trained: the model with its tokenizer.
        data: a source of text as for ``unmask prepare``, or the texts themselves; None = the validation split of the run.
        samples: passes over the documents, each with other masks.
        documents: evaluate only this many documents; None = all.
        baselines: also evaluate a unigram and a two-neighbour model of the run's training text, if it is present.
        curve: also measure loss and accuracy at this many noise levels; None = do not.
        single: also mask every token in turn, alone: accuracy and pseudo-perplexity, at a forward pass per token.
        seed: random seed of the masks.
        stages: progress, per stage; None = silent.

    Raises:
        ValueError: no text to evaluate on, or ``documents`` below 1.
    """
    if documents is not None and documents < 1:
        raise ValueError(f"documents={documents} leaves nothing to evaluate on: choose 1 or more.")
    if curve is not None and curve < 1:
        raise ValueError(f"curve={curve} is a number of noise levels: choose 1 or more.")
    stages = stages or _silent
    tokenizer, stores = trained.tokenizer, stores_of(trained)
    windows, special, autocast, origin = evaluation_setting(trained, data, documents)
    supervised = windows.answers is not None
    about = {"model": str(trained.folder), "step": trained.step, "data": origin}
    if supervised:
        with autocast():
            figures = answer_figures(trained.model, windows, special, samples=samples, seed=seed, stages=stages)
        return EvaluationReport(**about, answers=figures)
    models: dict[str, Any] = {"trained": trained.model}
    if baselines and stores is not None:
        train = TokenStore.open(stores / "train")
        train.check_tokenizer(tokenizer)
        models |= {
            "unigram": UnigramModel.of_store(train, special),
            "two neighbours": NeighbourModel.of_store(train, special),
        }
    bounds = {}
    for name, model in models.items():
        with stages(f"evaluating {name}") as progress, autocast(name == "trained"):
            bounds[name] = nelbo(model, windows, special, samples=samples, seed=seed, progress=progress)
    with stages("predicting masked tokens") as progress, autocast():
        accuracy = masked_accuracy(trained.model, windows, special, seed=seed, progress=progress)
    report = EvaluationReport(
        **about,
        models={name: bound.as_dict() for name, bound in bounds.items()},
        accuracy=accuracy.as_dict(),
    )
    if curve is not None:
        with stages("predicting at every noise level") as progress, autocast():
            levels = noise_curve(trained.model, windows, special, levels=curve, seed=seed, progress=progress)
        report["noise_levels"] = [level.as_dict() for level in levels]
    if single and not is_autoregressive(trained.model):
        with stages("predicting single masked tokens") as progress, autocast():
            report["single_masked"] = single_masked(trained.model, windows, special, progress=progress)
    if tokenizer.next_token_id is not None and not is_autoregressive(trained.model):  # instruction traces
        with stages("predicting masked tokens by class") as progress, autocast():
            report["classes"] = accuracy_by_class(
                models, windows, special, TraceClasses(tokenizer), TRACE_CLASSES, seed=seed, progress=progress
            )
    if len(bounds) > 1 and "bits_per_byte" in report["models"]["trained"]:
        report["bits_per_byte_saved"] = {
            name: bounds["trained"].bits_saved_per_byte(bound).as_dict()
            for name, bound in bounds.items()
            if name != "trained"
        }
    return report


def _silent(title: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)
