"""The load benchmark at toy size."""

import json
import subprocess
import sys

import pytest
from benchmarks.serve import memory, server

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


@pytest.mark.slow
def test_memory_is_flat_over_many_requests(trained):  # noqa: F811
    """2,000 small requests, after as many as allocators need: the resident memory grows by at most 16 MiB."""
    with server(str(trained), "--max-rows", "16", "--max-queue", "64") as (url, pid):
        figures = memory(url, pid, 16, 2000)
    sizes = figures["resident_mib"]
    assert figures["errors"] == 0 and figures["requests"] == 2000
    assert max(sizes[1:]) - sizes[0] < 16, sizes
