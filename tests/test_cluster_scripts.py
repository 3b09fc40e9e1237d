"""The scripts of ``examples/`` for several processes: two CPU processes stand in for machines."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.blocks import ROOT, Place

pytestmark = pytest.mark.slow

SRUN = """#!{python}
import os, subprocess, sys
sys.path.insert(0, {root!r})
from tests.training.processes import environment, free_port
port, command = free_port(), sys.argv[2:]
assert sys.argv[1] == "--kill-on-bad-exit=1"
tasks = [subprocess.Popen(command, env={{**os.environ, **environment(rank, 2, port, "srun")}}) for rank in (0, 1)]
open({numbers!r}, "w").write(" ".join(str(task.pid) for task in tasks))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("project"))


def test_two_processes_end_with_the_evaluation_of_one(place):
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "two_processes.sh"), "4"],
        cwd=place.copy,
        env=place.environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Trained: ") == 2  # one process reports each run
    assert sorted(p.name for p in (place.copy / "runs" / "two" / "fsdp" / "checkpoints").glob("*/sharded"))


def test_the_slurm_job_queues_itself_again_and_continues(place, tmp_path):
    """SIGUSR1 to one task: a checkpoint, exit 130, ``scontrol requeue``; the second time the job completes."""
    numbers, asked = tmp_path / "numbers", tmp_path / "requeued"
    tools = tmp_path / "tools"
    shutil.copytree(place.tools, tools)
    (tools / "srun").write_text(SRUN.format(python=sys.executable, root=str(ROOT), numbers=str(numbers)))
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" > "{asked}"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (tmp_path / "text.txt").write_text("The cat sees a dog.\n\nA dog finds the stone.\n\n" * 200)
    run = tmp_path / "run"
    command = [
        "bash", str(ROOT / "examples" / "slurm.sbatch"), "--preset", "tiny", f"data.source={tmp_path / 'text.txt'}", "data.vocab_size=300",
        f"run={run}", "train.device=cpu", "train.steps=80", "train.batch_size=4", "data.block_size=32", "model.d_model=16",
        "model.num_layers=1", "model.nhead=2", "train.logger=none", "train.checkpoint_every=2", "train.evaluate_rows=4",
    ]  # fmt: skip
    environment = place.environment | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "1",
    }  # fmt: skip
    job = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (run / "checkpoints" / "index.json").is_file():
        assert job.poll() is None and time.monotonic() < until, job.communicate()[1]
        time.sleep(0.2)
    os.kill(int(numbers.read_text().split()[1]), signal.SIGUSR1)
    printed = job.communicate(timeout=300)[1]
    assert job.returncode == 0 and asked.read_text().split() == ["requeue", "77"], printed
    assert "Stopping after this step" in printed
    asked.unlink()
    again = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert again.returncode == 0 and not asked.exists(), again.stderr
    assert (run / "checkpoints" / "step-00000080").is_dir()


def test_the_scripts_are_shell_scripts():
    for script in Path(ROOT / "examples").glob("*.s*"):
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
