"""Engines: run one function on many jobs, in processes of this machine or on a Ray cluster, with the results in order.

A job and its result are small and picklable; data are read and written by the job itself. Only a few jobs per worker are
in flight, so memory does not grow with their number.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from unmask.registry import Registry

Job = TypeVar("Job")
Result = TypeVar("Result")


class Engine(Protocol):
    """Run jobs and yield their results in order."""

    def __call__(self, function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, /) -> Iterator[Result]: ...


def in_processes(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, /) -> Iterator[Result]:
    """Run jobs in processes of this machine; with one worker or one job, in this process.

    Args:
        function: a function of a module, which is imported in every process.
        jobs: picklable arguments.
        workers: number of processes.

    Raises:
        RuntimeError: a process was killed.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=spawn, initializer=_start)
    try:
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process of the preparation was killed, usually because memory ran out. Run the same command again with fewer "
            "workers; finished parts are kept. In a script, call prepare() under `if __name__ == '__main__':`."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def on_ray(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, /) -> Iterator[Result]:
    """Run jobs as tasks of the Ray cluster that this machine belongs to, or of a local one that is started.

    Paths in jobs must be on storage that all machines of the cluster share. A task whose machine dies is run again.

    Args:
        function: a function of a module of a package that is installed on all machines.
        jobs: picklable arguments.
        workers: tasks in flight at once, at most; the cluster may run fewer.

    Raises:
        ImportError: ``ray`` is not installed.
    """
    ray = connected()
    remote = ray.remote(num_cpus=1, max_retries=3)(function)
    waiting: deque[Any] = deque()
    try:
        for job in jobs:
            waiting.append(remote.remote(job))
            if len(waiting) >= workers:
                yield _result(ray, waiting.popleft())
        while waiting:
            yield _result(ray, waiting.popleft())
    finally:
        for each in waiting:
            ray.cancel(each)


def connected() -> Any:
    """Return the module ``ray``, connected to the cluster of ``RAY_ADDRESS``, or else to a local one that is started.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("--engine ray needs Ray, which is not installed. Type: pip install 'unmask[ray]'") from error
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    return ray


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, Exception) else error) from None


ENGINES: Registry[Engine] = Registry(
    "engine",
    {
        "processes": (in_processes, "processes of this machine"),
        "ray": (on_ray, "tasks of a Ray cluster (extra `ray`), with all paths on storage that its machines share"),
    },
)
