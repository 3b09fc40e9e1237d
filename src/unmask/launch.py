"""The processes of a run, as a launcher started them: ``torchrun``, ``srun``, or Lightning itself.

``torchrun`` and ``srun`` start all processes at once. The first process then does what only one may do (open the run folder,
prepare the data), and the others wait for it, for a bounded time. Lightning starts the others after that work is done.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Launch:
    """What a launcher that starts all processes says in environment variables.

    Attributes:
        launcher: ``torchrun`` or ``srun``.
        rank: number of this process among all.
        processes: number of all processes.
        per_node: number of processes of each machine.
    """

    launcher: str
    rank: int
    processes: int
    per_node: int

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.processes // self.per_node


def find_launch(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return the launch of this process; None = no launcher, or Lightning.

    Examples:
        >>> find_launch({"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}).nodes
        2
        >>> find_launch({}) is None
        True
    """
    found = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in found:
        processes = int(found["WORLD_SIZE"])
        return Launch("torchrun", int(found["RANK"]), processes, int(found.get("LOCAL_WORLD_SIZE", processes)))
    interactive = found.get("SLURM_JOB_NAME") in (
        "bash",
        "interactive",
    )  # a shell of salloc, where srun did not start this
    if "SLURM_NTASKS" in found and "SLURM_PROCID" in found and not interactive:
        processes = int(found["SLURM_NTASKS"])
        return Launch("srun", int(found["SLURM_PROCID"]), processes, processes // int(found.get("SLURM_NNODES", "1")))
    return None


def is_first_process() -> bool:
    """Tell whether this process has rank 0 among those started by Lightning, torchrun or SLURM."""
    rank = next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0")
    return rank == "0"


def check_devices(devices: int | str, nodes: int | str, launch: Launch | None) -> None:
    """Check ``train.devices`` and ``train.nodes`` against the launcher.

    Raises:
        ValueError: they contradict it, or several machines without a launcher.
    """
    if launch is None:
        if isinstance(nodes, int) and nodes > 1:
            raise ValueError(
                f"train.nodes={nodes} needs a launcher that starts processes on every machine, and this process was started alone. Run "
                f"`torchrun --nnodes {nodes} --nproc-per-node N … -m unmask train …` on each machine, or srun (docs/guides/many-machines.md)."
            )
        return
    for key, given, started in (("devices", devices, launch.per_node), ("nodes", nodes, launch.nodes)):
        if given not in ("auto", started):
            raise ValueError(
                f"train.{key}={given}, and {launch.launcher} started {launch.per_node} processes on each of {launch.nodes} machines. Leave "
                f"train.{key} out, or change the command of {launch.launcher}."
            )


def join(launch: Launch, backend: str, timeout: timedelta) -> None:
    """Connect all processes of a launch (``torch.distributed``), unless they are connected.

    Args:
        launch: the launch.
        backend: of ``torch.distributed``.
        timeout: of its operations.
    """
    import torch.distributed as dist

    if dist.is_initialized():
        return
    if launch.launcher == "srun":
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        slurm = SLURMEnvironment()
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
    dist.init_process_group(backend, rank=launch.rank, world_size=launch.processes, timeout=timeout)


def first_then_others(work: Callable[[], Result], what: str, timeout: timedelta) -> Result:
    """Do ``work`` in the first process, and then in the others, which wait for it.

    Without connected processes the work is done at once.

    Args:
        work: leaves its result on disk, so that the others read what the first wrote.
        what: the work in words, for the error.
        timeout: how long the others wait.

    Returns:
        The result of this process.

    Raises:
        ValueError: the work failed in the first process (the others raise its message), or took longer than ``timeout``.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return work()
    group = dist.new_group(backend="gloo", timeout=timeout)
    failure: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            result = work()
        except BaseException as error:
            dist.broadcast_object_list([str(error) or type(error).__name__], 0, group=group)
            raise
        dist.broadcast_object_list(failure, 0, group=group)
        return result
    try:
        dist.broadcast_object_list(failure, 0, group=group)
    except RuntimeError as error:
        raise ValueError(
            f"Process {dist.get_rank()} waited for the first process to {what}, which ended or took longer than "
            f"{timeout.total_seconds() / 60:g} minutes ({str(error).splitlines()[0][:120]}). Its own message says why; for long work "
            "run `unmask prepare` before, or raise data.wait_minutes."
        ) from None
    if failure[0] is not None:
        raise ValueError(f"The first process could not {what}: {failure[0]}")
    return work()


def end_with_parent(environment: Mapping[str, str] | None = None, every: float = 2.0) -> None:
    """End this process soon after the one that started it, if Lightning started it. Otherwise it would wait without end.

    Args:
        environment: environment variables; None = those of this process.
        every: seconds between looks.
    """
    found = os.environ if environment is None else environment
    if found.get("LOCAL_RANK", "0") == "0" or find_launch(found) is not None:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        print(
            f"Process {found['LOCAL_RANK']} ends: the first process (number {parent}) has ended. The last checkpoint is intact; run the "
            "same command again to continue.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
