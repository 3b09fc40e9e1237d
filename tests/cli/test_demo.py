"""The demonstrations: killed at several moments, resumed, and complete with all their files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROMISED = (
    "config.yaml",
    "metrics.csv",
    "loss.png",
    "evaluation.json",
    "samples.md",
    "unmasking.html",
    "fill.html",
    "checkpoints/index.json",
    "sudoku/evaluation.json",
    "sudoku/solving.html",
)


def start(run: Path, *which: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "unmask.cli.main", "demo", *which, "--quick", "--run", str(run)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process: subprocess.Popen, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)


@pytest.mark.slow
def test_the_text_demo_resumes_after_four_kills_and_writes_all_its_files(tmp_path):
    run = tmp_path / "run"
    moments = (
        (signal.SIGKILL, lambda: (run / "data" / "tokenizer.json").exists()),  # while tokenising
        (
            signal.SIGTERM,
            lambda: (run / "metrics.csv").exists() and "40,train/loss" in (run / "metrics.csv").read_text(),
        ),
        (
            signal.SIGKILL,
            lambda: (run / "metrics.csv").exists() and "90,train/loss" in (run / "metrics.csv").read_text(),
        ),
        (
            signal.SIGKILL,  # while training on sudoku
            lambda: (run / "sudoku" / "checkpoints" / "index.json").exists(),
        ),
    )
    for kind, moment in moments:
        process = start(run)
        wait_for(moment, process)
        process.send_signal(kind)
        process.communicate()
        assert process.returncode != 0
    process = start(run)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    for name in PROMISED:
        assert (run / name).stat().st_size > 0, name
    steps = [
        int(line.split(",")[0]) for line in (run / "metrics.csv").read_text().splitlines()[1:] if ",train/loss," in line
    ]
    assert steps == sorted(set(steps)) and steps[-1] == 150
    models = json.loads((run / "evaluation.json").read_text())["models"]
    assert models["trained"]["bits_per_byte"]["value"] < models["unigram"]["bits_per_byte"]["value"]
    page = (run / "unmasking.html").read_text()
    assert "http://" not in page and "https://" not in page, "the page is self-contained"
    assert "unmask fill" in output and "Try next" in output
    assert "puzzles in the order it chose itself" in output

    began = (run / "evaluation.json").stat().st_mtime_ns
    again = start(run)
    assert again.wait() == 0
    assert (run / "evaluation.json").stat().st_mtime_ns == began, "what is done is not done again"


@pytest.mark.slow
def test_the_sudoku_demo_solves_more_in_its_own_order(tmp_path):
    run = tmp_path / "run"
    output, _ = start(run, "sudoku").communicate()
    report = json.loads((run / "evaluation.json").read_text())
    own, random = (report["orders"][name]["solved"] for name in ("its own order", "random order"))
    assert f"solved {own} of 40 puzzles in the order it chose itself, {random} in random order" in output
    assert own > random and "unmask task sudoku4 --score" in output
    rows = [json.loads(line) for line in (run / "rows" / "train.jsonl").read_text().splitlines()]
    assert {row["puzzle"] for row in rows} == {"0" * 16}, "trained on no puzzle"
    page, decodes = (run / "solving.html").read_text(), json.loads((run / "decodes.json").read_text())
    assert "http://" not in page and "https://" not in page and '"columns":4' in page
    assert [each["label"] for each in decodes["runs"]] == ["its own order", "random order"]
    blanks = decodes["puzzle"].count("0")
    assert all(len(each["steps"]) == blanks and len(each["tokens"]) == 16 for each in decodes["runs"])


@pytest.mark.slow
def test_the_traces_demo_resumes_after_a_kill_and_writes_all_its_files(tmp_path):
    run = tmp_path / "run"
    process = start(run, "traces")
    wait_for(lambda: (run / "metrics.csv").exists() and "30,train/loss" in (run / "metrics.csv").read_text(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(run, "traces")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    for name in (
        "config.yaml",
        "metrics.csv",
        "loss.png",
        "classes.png",
        "evaluation.json",
        "samples.md",
        "fill.html",
        "checkpoints/index.json",
    ):
        assert (run / name).stat().st_size > 0, name
    report = json.loads((run / "evaluation.json").read_text())
    assert {"mnemonic", "register", "immediate", "bracket"} <= set(report["classes"])
    models = report["classes"]["all"]["models"]
    assert models["trained"]["bits_per_token"] < models["unigram"]["bits_per_token"]
    assert (run / "samples.md").read_text().count("← filled in; original:") == 3 and "[MASK]" not in (
        run / "samples.md"
    ).read_text()
    assert "unmask fill" in output and "popped register" in output
