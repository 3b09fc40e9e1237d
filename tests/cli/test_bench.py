"""``unmask bench``: figures of this machine as a table or as JSON, and what each option turns."""

import json

import pytest
import torch

from tests.cli.test_bad_input import assert_taught


@pytest.fixture(autouse=True)
def memory_at_once(monkeypatch):
    """Peak memory has its own test and needs a process each; here the length of the program replaces it."""
    monkeypatch.setattr("unmask.measure.quick.peak_memory", lambda program: len(program) << 20)


def report(unmask, *options) -> dict:
    answer = unmask("bench", "--quick", "--turns", "1", "--json", *options)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_the_report_holds_every_figure(unmask):
    found = report(unmask)
    assert {"mlm", "diffusion", "documents"} < set(found["tokens_per_second"])
    assert len(found["rows"]) == 5 and all(row["value"] > 0 for row in found["rows"])
    assert found["machine"]["threads"] == torch.get_num_threads() and found["product_gflops"] > 0
    mlm = next(row for row in found["rows"] if row["work"].startswith("MLM step, 15%"))
    assert mlm["value"] == pytest.approx(found["seconds"]["mlm, bert"] / found["seconds"]["mlm"])


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (["--precision", "fp32"], "precision", "fp32"),
        (["--precision", "bf16"], "precision", "bf16"),
        (["--rows", "1"], "rows", 1),
        (["--length", "16"], "length", 16),
    ],
)
def test_options_set_what_is_measured(unmask, options, key, value):
    assert report(unmask, *options)["setting"][key] == value


def test_turns_multiply_calls_and_a_preset_sets_the_size(unmask, monkeypatch):
    seen = []

    def remember(setting, progress):
        seen.append(setting)
        raise ValueError("measured enough")

    monkeypatch.setattr("unmask.measure.quick.quick_comparison", remember)
    for options in (["--turns", "7"], ["--preset", "base"], ["--compile"], []):
        assert unmask("bench", *options).code == 1
    turns, base, compiled, plain = seen
    assert (turns.turns, plain.turns) == (7, 2)
    assert (base.size.layers, base.size.width, plain.size.layers) == (12, 768, 6)
    assert compiled.compiled and not plain.compiled


def test_the_tables_fit_a_terminal(unmask, monkeypatch):
    answer = unmask("bench", "--quick", "--turns", "1")
    assert answer.code == 0 and "×" in answer.out and "GFLOP/s" in answer.out and "…" not in answer.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--turns", "0"], ["turns=0", "at least 1"]),
        (["--rows", "0"], ["rows=0"]),
        (["--length", "3"], ["length=3", "at least 8"]),
        (["--preset", "huge"], ["huge", "tiny, small, base, large"]),
    ],
)
def test_bad_options_are_one_paragraph(unmask, options, words):
    assert_taught(unmask("bench", *options), *words)
