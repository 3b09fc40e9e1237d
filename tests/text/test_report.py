"""Evaluation reports: the same figures from Python and from the command line, readable as text, HTML and JSON."""

import json

import pytest
import torch

from unmask.report import EvaluationReport, ReportTable, evaluate_model
from unmask.runs import load_run
from unmask.text.loading import load
from unmask.text.model import TrainedModel

TEXTS = ["the cat sees the moon.", "a dog finds a stone."]


@pytest.fixture(scope="module")
def model(trained):
    return load(trained, device="cpu")


def test_python_and_the_command_line_report_the_same_figures(unmask, trained, model):
    printed = json.loads(
        unmask("evaluate", "--model", trained, "--samples", 1, "--documents", 3, "--device", "cpu", "--json").out
    )
    report = model.evaluate(samples=1, documents=3)
    assert isinstance(report, EvaluationReport) and dict(report) == printed
    assert report.keys() >= {"model", "step", "data", "models", "accuracy", "bits_per_byte_saved"}
    assert evaluate_model(load_run(trained), samples=1, documents=3) == report


def test_a_list_of_texts_is_evaluated_without_its_store(model):
    report = model.evaluate(TEXTS, samples=1, baselines=False)
    assert report["models"].keys() == {"trained"} and report["data"] == "given texts"
    assert report["models"]["trained"]["documents"] == 2
    assert model.evaluate(TEXTS, samples=1, documents=1)["models"]["trained"]["documents"] == 1
    assert model.evaluate(TEXTS, samples=1, seed=1, baselines=False) != report


def test_a_report_reads_as_text_and_as_html(model):
    report = model.evaluate(TEXTS, samples=2)
    text, page = repr(report), report._repr_html_()
    tables = [part for part in report.parts() if isinstance(part, ReportTable)]
    assert [row[0] for row in tables[0].rows] == [*report["models"], "perplexity (trained)"]
    for cell in (cell for table in tables for row in (table.columns, *table.rows) for cell in row):
        assert cell in text and cell in page
    assert json.loads(json.dumps(report)) == report
    assert repr(EvaluationReport(json.loads(json.dumps(report)))) == text


def test_stages_receive_their_progress(model):
    from contextlib import contextmanager

    seen = {}

    @contextmanager
    def stages(title):
        yield lambda done, total: seen.__setitem__(title, (done, total))

    evaluate_model(model, TEXTS, samples=1, stages=stages)
    assert {"evaluating trained", "evaluating unigram", "predicting masked tokens"} <= seen.keys()


@pytest.mark.parametrize("arguments, message", [
    ({"data": []}, "no text to evaluate on"), ({"documents": 0}, "documents=0"),
])  # fmt: skip
def test_nothing_to_evaluate_is_an_error(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.evaluate(**arguments)


def test_a_model_without_a_run_needs_text(model):
    alone = TrainedModel(model.model, model.tokenizer, model.folder)
    with pytest.raises(ValueError, match="no validation split beside it"):
        alone.evaluate()
    report = alone.evaluate(TEXTS, samples=1)
    assert report["step"] is None and report["models"].keys() == {"trained"}
    assert torch.isfinite(torch.tensor(report["models"]["trained"]["nats"]))
