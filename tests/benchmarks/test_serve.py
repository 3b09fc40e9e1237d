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
    command = [
        "--model",
        trained,
        "--clients",
        4,
        "--seconds",
        2,
        "--requests",
        40,
        "--most",
        12,
        "--json",
        tmp_path / "f.json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", *map(str, command)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads((tmp_path / "f.json").read_text())
    assert all(
        figures[mode]["errors"] == 0 and figures[mode]["requests"] > 0 for mode in ("single", "static", "continuous")
    )
    assert len(figures["memory_mib_over_requests"]["resident"]) == 10 and "| continuous | 4 |" in done.stdout
