"""The scripts of ``examples/reproduce``, and the page of results that is made from their JSON files."""

import argparse
import json
import subprocess
import sys

import pytest

from tests.blocks import ROOT

HERE = ROOT / "examples" / "reproduce"
SCRIPTS = sorted(path for path in HERE.glob("*.py") if path.name not in ("reporting.py", "page.py"))


@pytest.fixture
def reporting(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import reporting

    return reporting


def reproduction(reporting, folder, size="quick"):
    options = argparse.Namespace(quick=size == "quick", toy=size == "toy", seed=0, runs=folder, results=None)
    return reporting.Reproduction(1, "A title", options)


def test_the_page_of_results_is_that_of_the_json_files(reporting):
    import page

    assert page.page() == page.PAGE.read_text(encoding="utf-8"), "run `python examples/reproduce/page.py`"


def test_every_figure_has_its_command_time_machine_and_seeds():
    files = sorted((HERE / "results").glob("*.json"))
    assert files
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        commands = {each["command"] for each in report["commands"]}
        assert report["seconds"] > 0 and report["machine"]["processor"] and report["seeds"]
        assert report["figures"] and all(figure["command"] in commands for figure in report["figures"])
        assert (HERE / f"{file.name.split('.')[0]}.py").is_file()


def test_a_missed_mark_is_an_error_and_a_kept_one_is_not(reporting, tmp_path):
    for value, code in ((0.98, 1), (0.99, 0)):
        result = reproduction(reporting, tmp_path)
        result.commands.append({"command": "unmask", "seconds": 1.0, "processor_seconds": 1.0})
        result.figure("paths", {"value": value, "low": 0.9, "high": 1.0}, "%", mark=reporting.at_least(0.99))
        assert result.save() == code
    toy = reproduction(reporting, tmp_path, "toy")
    toy.commands = result.commands
    toy.figure("paths", 0.1, "%", mark=reporting.at_least(0.99))
    assert toy.save() == 0


def test_a_figure_is_shown_with_its_interval_and_verdict(reporting):
    figure = {
        "name": "n",
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "unit": "%",
        "published": "p",
        "mark": "≥ 40%",
        "passed": True,
    }
    assert reporting.cells(figure) == ["n", "50.0% (40.0% to 60.0%)", "p", "≥ 40%: passed"]
    assert reporting.cells({**figure, "unit": "bits", "low": None})[1] == "0.5 bits"
    assert reporting.at_most(0.01)[1](0.01) and not reporting.at_most(0.01)[1](0.011)


def test_a_command_that_is_done_is_not_run_again_and_keeps_its_time(reporting, tmp_path, monkeypatch):
    first = reproduction(reporting, tmp_path)
    calls = []

    def run(words, **options):
        calls.append(words)
        return subprocess.CompletedProcess(words, 0, stdout='{"value": 3}')

    monkeypatch.setattr(reporting.subprocess, "run", run)
    assert first.run("info", "--json") == {"value": 3}
    again = reproduction(reporting, tmp_path)
    assert again.run("info", "--json") == {"value": 3} and len(calls) == 1
    assert again.commands == first.commands
    again.run("info", "other", "--json")
    assert len(calls) == 2


def test_a_command_that_fails_ends_the_script_and_is_run_again(reporting, tmp_path, monkeypatch):
    monkeypatch.setattr(
        reporting.subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 2, stdout="")
    )
    for _ in range(2):
        with pytest.raises(SystemExit, match="ended with code 2"):
            reproduction(reporting, tmp_path).run("info")
    [kept] = (tmp_path / "quick" / "commands").iterdir()
    assert not json.loads(kept.read_text())["done"]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_at_the_size_of_a_toy(script, tmp_path):
    words = [sys.executable, script, "--toy", "--runs", tmp_path / "runs"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    report = json.loads((tmp_path / "runs" / "results" / f"{script.stem}.toy.json").read_text(encoding="utf-8"))
    assert report["figures"] and all(figure["passed"] is None for figure in report["figures"])
