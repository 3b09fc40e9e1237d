"""The load benchmark at toy size."""

import json
import subprocess
import sys

import pytest

from tests.blocks import ROOT
from tests.cli.conftest import corpus, trained  # noqa: F401 (fixtures)

pytest.importorskip("fastapi")


@pytest.mark.slow
def test_the_load_benchmark_reports_every_mode(trained, tmp_path):  # noqa: F811
    command = ["--model", trained, "--clients", 4, "--seconds", 2, "--rounds", 1]
    command += ["--requests", 40, "--most", 12, "--json", tmp_path / "f.json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", *map(str, command)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads((tmp_path / "f.json").read_text())
    modes = ("single", "static", "dropping", "continuous")
    assert all(figures[mode]["errors"] == 0 and figures[mode]["requests"] > 0 for mode in modes)
    assert len(figures["memory"]["resident_mib"]) == 11 and "| continuous | 4 |" in done.stdout
    assert figures["memory"]["requests"] == 40 and figures["memory"]["errors"] == 0
