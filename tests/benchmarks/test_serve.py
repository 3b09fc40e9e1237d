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
    files = {"--readme": tmp_path / "README.md", "--page": tmp_path / "page.md"}
    for option, file in files.items():
        file.write_text("before\n<!-- service:begin -->\nold\n<!-- service:end -->\nafter\n")
        command += [option, file]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", *map(str, command)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads((tmp_path / "f.json").read_text())
    modes = ("single", "static", "dropping", "continuous")
    assert all(figures[mode]["errors"] == 0 and figures[mode]["requests"] > 0 for mode in modes)
    assert len(figures["memory"]["resident_mib"]) == 11 and "| continuous | 4 |" in done.stdout
    assert figures["memory"]["requests"] == 40 and figures["memory"]["errors"] == 0
    assert figures["benchmark"] == "serve" and figures["machine"]["threads"] >= 1
    works = [(row["beside"], row["target"], row["at_most"]) for row in figures["rows"]]
    assert works == [
        ("one request at a time", 3, False),
        ("static batches", 1.5, False),
        ("after a tenth of them", 1.05, True),
    ]
    short, page = (file.read_text() for file in files.values())
    assert all("old" not in text and text.startswith("before") and text.endswith("after\n") for text in (short, page))
    assert "Service, 4 clients for 2 s:" in short and "MiB after 4 requests" in short and short.count("\n") == 5
    assert "| continuous | 4 |" in page and "| 40 |" in page and "beside static batches |" in page
