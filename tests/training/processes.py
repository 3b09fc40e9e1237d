"""Run a function in several forked processes with the environment that ``torchrun`` gives them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmask.launch import find_launch  # noqa: F401 (imported once, before the forks)
from unmask.training import module, strategies, trainer  # noqa: F401


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def environment(rank: int, count: int, port: int, launcher: str = "torchrun") -> dict[str, str]:
    """The variables of a launcher for one of ``count`` processes on this machine."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if launcher == "srun":
        return place | {
            "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": str(count), "SLURM_NTASKS_PER_NODE": str(count),
            "SLURM_NNODES": "1", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0",
        }  # fmt: skip
    return place | {
        "TORCHELASTIC_RUN_ID": "none", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0",
    }  # fmt: skip


def _child(
    folder: Path, rank: int, count: int, port: int, launcher: str, work: Callable[..., Any], arguments: Any
) -> None:
    with open(folder / f"{rank}.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = sys.stderr = output
        os.environ.update(environment(rank, count, port, launcher))
        code = 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                work(*arguments)
            except BaseException:
                traceback.print_exc()
                code = 1
        print(*(each.message for each in caught), sep="\n")
        output.flush()
        os._exit(code)


def start(
    folder: Path, work: Callable[..., Any], *arguments: Any, count: int = 2, launcher: str = "torchrun"
) -> list[Any]:
    """Start ``work(*arguments)`` in forked processes; ``output_of`` reads what they print."""
    folder.mkdir(parents=True, exist_ok=True)
    port, forked = free_port(), multiprocessing.get_context("fork")
    processes = [
        forked.Process(target=_child, args=(folder, rank, count, port, launcher, work, arguments))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def output_of(folder: Path, rank: int) -> str:
    return (folder / f"{rank}.txt").read_text()


def run(folder: Path, work: Callable[..., Any], *arguments: Any, count: int = 2, launcher: str = "torchrun") -> None:
    """Run ``work(*arguments)`` in forked processes, and show what they print if one fails."""
    processes = start(folder, work, *arguments, count=count, launcher=launcher)
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * count, "\n".join(f"{rank}: {output_of(folder, rank)[-3000:]}" for rank in range(count))
