"""`make bench` from beginning to end, with a toy for a network."""

import ctypes
import json
import os
import resource
import sys

import pytest
import torch
from benchmarks.readme import BEGIN, END

from benchmarks import decode, harness, run, scaling, train_step
from unmask.measure.flops import TINY


@pytest.fixture
def small(monkeypatch):
    """The benchmark's sizes, replaced by a toy's; decoding and memory, which take processes and seconds, by their answers."""
    monkeypatch.setattr(train_step, "SIZE", TINY)
    monkeypatch.setattr(train_step, "step_peaks", lambda *_: (2**20, 2**22))
    monkeypatch.setattr(scaling, "SIZE", TINY)
    monkeypatch.setattr(
        scaling, "AXES", {axis: (64, 128, 256) for axis in scaling.AXES} | {"depth": (1, 2, 3), "batch": (1, 2, 3)}
    )
    found = {"seconds": 2.0, "beside_full_logits": 3.0, "beside_dual_cache": 1.25}
    names = ("full-logits loop, our network", "exact, surest first", "blocks, dual cache")
    monkeypatch.setattr(decode, "measure", lambda *_: dict.fromkeys(names, found))
    for part in (run.decode_parts, run.start, run.corruption, run.collate, run.growth):  # with tests of their own
        monkeypatch.setattr(part, "section", lambda *_: ([], {}))
    for process in ("in_fresh_process", "in_default_process"):
        monkeypatch.setattr(harness, process, lambda function, *arguments: function(*arguments))


def measure(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--eager", "--turns", "1", "--threads", "1", *map(str, arguments)])
    run.main()


@pytest.mark.slow
def test_a_whole_run_prints_every_figure_and_refreshes_the_readme(small, monkeypatch, tmp_path, capsys):
    readme, page = tmp_path / "README.md", tmp_path / "page.md"
    figures, picture = tmp_path / "all.json", tmp_path / "scaling.png"
    for file in (readme, page):
        file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    measure(monkeypatch, "--readme", readme, "--page", page, "--json", figures, "--plot", picture)
    report = json.loads(figures.read_text())
    works = [row["work"] for row in report["rows"]]
    for work in (
        "MLM step at 15%, fp32",
        "MLM step at 15%, fp32, whole processes",
        "masked-diffusion step, fp32",
        "peak memory of that step, whole process",
        "loader's share of a step",
    ):
        assert work in works
    assert (
        all(row["met"] is not None for row in report["rows"])
        and picture.is_file()
        and report["machine"]["threads"] == 1
    )
    short = readme.read_text()
    assert "| generation of 128 tokens, exact, beside a full-logits loop |" in short and "dual-cache" not in short
    text = page.read_text()
    assert "old" not in text and text.startswith("before\n") and text.endswith("after\n")
    assert "| generation, cached blocks, beside a dual-cache loop | 1.25× | ≥ 1.30× | ✗ |" in text
    assert "| peak memory of that step, whole process, beside Hugging Face BERT | 0.25× | ≤ 0.50× | ✓ |" in text
    assert "cost grows" not in text and "cost grows with depth" in capsys.readouterr().out


def test_a_part_of_the_run_leaves_the_readme_alone(small, monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("as it was")
    measure(monkeypatch, "--only", "decode", "--readme", readme, "--json", tmp_path / "some.json")
    assert readme.read_text() == "as it was"
    assert len(json.loads((tmp_path / "some.json").read_text())["rows"]) == 5


def test_an_unknown_section_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        measure(monkeypatch, "--only", "mlmm")
    assert "no section mlmm; there are mlm," in capsys.readouterr().err


def test_alone_is_another_process_with_as_many_threads():
    assert harness.in_fresh_process(os.getpid) != os.getpid()
    assert harness.in_fresh_process(torch.get_num_threads) == torch.get_num_threads()


def faults() -> int:
    """Page faults of freeing 64 MiB and taking them again, some times."""
    for count in range(8):
        if count == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_a_peers_process_gives_its_memory_back_as_its_users_programs_do():
    assert harness.in_default_process(faults) > 5 * max(harness.in_fresh_process(faults), 1_000)
