"""The demonstration on pictures: killed, resumed, and complete with all its files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROMISED = (
    "samples.png",
    "unmasking.gif",
    "completed.png",
    "order.png",
    "data.png",
    "loss.png",
    "evaluation.json",
    "checkpoints/index.json",
)


def start(run: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "unmask.cli.main", "demo", "grid", "--quick", "--run", str(run)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_the_grid_demo_resumes_after_a_kill_and_writes_all_its_files(tmp_path):
    run = tmp_path / "run"
    process = start(run)
    end = time.monotonic() + 240
    while not (run / "checkpoints" / "index.json").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(run)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    for name in PROMISED:
        assert (run / name).stat().st_size > 0, name
    steps = [
        int(line.split(",")[0]) for line in (run / "metrics.csv").read_text().splitlines()[1:] if ",train/loss," in line
    ]
    assert steps == sorted(set(steps)) and steps[-1] == 60
    report = json.loads((run / "evaluation.json").read_text())
    assert set(next(iter(report["painted"].values()))) >= {"sky", "light", "land", "lake", "all", "not_in_training"}
    assert "unmasking.gif" in output and "that satisfy each law" in " ".join(output.split())
