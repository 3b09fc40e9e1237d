"""Launchers: who is first, who waits and how long, and what happens when a process ends."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from tests.training import processes
from tests.training.conftest import config_of
from tests.training.test_many_processes import CLIPPED, trained, weights
from unmask.build import run as build_run
from unmask.build.run import train
from unmask.launch import Launch, check_devices, find_launch, first_then_others
from unmask.training.strategies import connect

STRATEGIES = pytest.mark.parametrize("strategy", ["ddp", "fsdp"])


def test_the_launch_is_that_of_the_environment():
    assert find_launch(processes.environment(1, 4, 1)) == Launch("torchrun", 1, 4, 4)
    assert find_launch(processes.environment(1, 4, 1, "srun")) == Launch("srun", 1, 4, 4)
    nodes = processes.environment(3, 4, 1, "srun") | {"SLURM_NNODES": "2"}
    assert find_launch(nodes) == Launch("srun", 3, 4, 2) and find_launch(nodes).nodes == 2
    assert find_launch(nodes | {"SLURM_JOB_NAME": "bash"}) is None  # a shell of salloc
    assert find_launch({"LOCAL_RANK": "1"}) is None  # Lightning


def test_devices_and_nodes_that_contradict_the_launcher_are_refused(tiny):
    check_devices("auto", "auto", Launch("torchrun", 0, 4, 2))
    check_devices(2, 2, Launch("torchrun", 0, 4, 2))
    with pytest.raises(ValueError, match=r"train\.devices=3, and srun started 2 processes on each of 2 machines"):
        check_devices(3, 2, Launch("srun", 0, 4, 2))
    with pytest.raises(ValueError, match=r"train\.nodes=2 needs a launcher.*torchrun --nnodes 2"):
        connect(config_of(tiny, "train.nodes=2"))


@pytest.mark.parametrize("option", ["train.lora_rank=2", "optim.name=muon", "train.compile=true"])
def test_options_that_need_whole_weights_are_refused_with_split_ones(tiny, option):
    with pytest.raises(ValueError, match=r"train\.strategy=fsdp every process holds a part.*train\.strategy=ddp"):
        train(config_of(tiny, "train.strategy=fsdp", option))


def prepares(config, folder: Path, how: str) -> None:
    """Train; the first process sleeps, fails or dies while it prepares."""
    rank, real = os.environ.get("RANK") or os.environ["SLURM_PROCID"], build_run.prepare_data

    def prepare(*arguments):
        (folder / f"begins {rank}").write_text(str(time.time()))
        if rank == "0" and how != "works":
            time.sleep(3)
        if rank == "0" and how == "fails":
            raise ValueError("no text here")
        if rank == "0" and how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        prepared = real(*arguments)
        (folder / f"ends {rank}").write_text(str(time.time()))
        return prepared

    build_run.prepare_data = prepare
    trained(config)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_only_the_first_process_prepares(tiny, tmp_path, launcher):
    config = config_of(tiny, *CLIPPED, "train.steps=1")
    processes.run(tmp_path / "output", prepares, config, tmp_path, "sleeps", launcher=launcher)
    begins, ends = (float((tmp_path / name).read_text()) for name in ("begins 1", "ends 0"))
    assert begins >= ends


FAILURES = {
    "fails": (1.0, "The first process could not prepare the data: no text here"),
    "dies": (1.0, "Process 1 waited for the first process to prepare the data, which ended or took longer"),
    "sleeps": (0.02, "took longer than 0.02 minutes.*unmask prepare.*data.wait_minutes"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", FAILURES)
def test_the_others_wait_for_a_bounded_time_and_say_why_they_end(tiny, tmp_path, how):
    minutes, message = FAILURES[how]
    config = config_of(tiny, *CLIPPED, f"data.wait_minutes={minutes}")
    began = time.monotonic()
    first, second = processes.start(tmp_path / "output", prepares, config, tmp_path, how)
    second.join(60)
    assert second.exitcode == 1 and time.monotonic() - began < 60
    assert re.search(message, processes.output_of(tmp_path / "output", 1), re.DOTALL)
    first.join(60)
    first.kill()
    assert not (tmp_path / "begins 1").exists()


class Struck(Callback):
    """One process gets a signal in the middle of a step."""

    def __init__(self, rank: int, number: int) -> None:
        self.rank, self.number = rank, number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == 5:
            os.kill(os.getpid(), self.number)


def struck(config, rank: int, number: int) -> None:
    try:
        train(config, callbacks=[Struck(rank, number)], workers=1)
    except KeyboardInterrupt:
        print("stopped")


@pytest.mark.slow
@STRATEGIES
@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_process_is_killed_the_other_ends_with_the_reason(tiny, tmp_path, strategy, victim):
    """Without a launcher that would end it; the checkpoint before is intact."""
    config = config_of(tiny, f"train.strategy={strategy}", "train.checkpoint_every=3", "train.logger=none")
    began = time.monotonic()
    started = processes.start(tmp_path / "output", struck, config, victim, signal.SIGKILL)
    for process in started:
        process.join(60)
    assert time.monotonic() - began < 60
    assert started[victim].exitcode == -signal.SIGKILL and started[1 - victim].exitcode == 1
    printed = processes.output_of(tmp_path / "output", 1 - victim)
    assert f"Process {1 - victim} of 2 lost another process of the run at step 5" in printed
    assert set(weights(Path(config.run)))


@pytest.mark.slow
@STRATEGIES
def test_a_signal_to_one_process_stops_all_after_the_same_step(tiny, tmp_path, strategy):
    """SLURM's signal before the end of a job; the continued run equals an uninterrupted one."""
    common = (f"data.store={tmp_path / 'store'}", f"train.strategy={strategy}", "train.logger=none", "train.steps=8")
    whole, stopped = (config_of(tiny, f"run={tmp_path / name}", *common) for name in ("whole", "stopped"))
    processes.run(tmp_path / "output", struck, stopped, 1, signal.SIGUSR1)
    assert all("stopped" in processes.output_of(tmp_path / "output", rank) for rank in (0, 1))
    assert (Path(stopped.run) / "checkpoints" / "step-00000006").is_dir()
    processes.run(tmp_path / "again", trained, stopped)
    processes.run(tmp_path / "whole output", trained, whole)
    for key, expected in weights(Path(whole.run)).items():
        assert torch.equal(weights(Path(stopped.run))[key], expected), key


def test_work_is_done_at_once_without_other_processes():
    assert first_then_others(lambda: 7, "count", timedelta(seconds=1)) == 7


def test_a_process_that_lightning_started_ends_with_the_one_that_started_it(tmp_path):
    """The first process is gone, so nobody else would end this one."""
    program = (
        "import os, time\n"
        "if os.fork():\n    time.sleep(1)\n    os._exit(0)\n"
        "from unmask.launch import end_with_parent\n"
        "end_with_parent({'LOCAL_RANK': '1'}, every=0.05)\n"
        "open(os.environ['HERE'], 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    here = tmp_path / "number"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HERE": str(here)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30)
    assert here.read_text().isdigit()
    assert "Process 1 ends: the first process" in done.stderr  # the pipe closes when both have ended
