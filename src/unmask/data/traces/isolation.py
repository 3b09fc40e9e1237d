"""Run tasks on untrusted files in separate processes, so that a crash, hang or memory exhaustion affects one task.

Every worker runs one task at a time. When a worker dies or exceeds its time, its task is reported as a ``Failure``, the
process is replaced, and the other tasks continue. Results have the order of the tasks, and only a few are buffered.

The limit is processor time, so that results do not depend on the machine's load. A task that only waits is stopped
after ten times as long on a wall clock, which excludes the time in which this process is suspended (a sleeping laptop).
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

_CLOCK = 10  # wall-clock seconds per second of processor time
_TICK = 1.0  # seconds between checks of the clock
_STARTING = 120.0  # longest start of a process, in seconds
_READY = "ready"
_HELD = 4  # buffered results per worker


@dataclass(frozen=True)
class Failure:
    """A task without a result, and the reason in a few words."""

    reason: str


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: int | None = None
    left: float = _STARTING  # wall-clock seconds
    ready: bool = False


def isolated(
    function: Callable[[Any], Any], tasks: Iterable[Any], workers: int, seconds: float, memory: int
) -> Iterator[Any]:
    """Yield ``function(task)`` for every task, in order, or a ``Failure``.

    Args:
        function: picklable, like tasks and results. An exception in it is a bug and is raised here.
        tasks: read lazily.
        workers: number of processes.
        seconds: processor time per task, rounded up.
        memory: bytes of address space per process, enforced on Linux.
    """
    context = multiprocessing.get_context("spawn")
    waiting = enumerate(tasks)
    finished: dict[int, Any] = {}
    turn = 0
    team: list[_Worker] = []
    exhausted = False

    def start() -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(function, theirs, seconds, memory), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def assign(worker: _Worker) -> bool:
        """Send the next task to a worker, unless there is none or too many results are buffered."""
        nonlocal exhausted
        if exhausted or len(finished) >= _HELD * workers:
            return False
        number, task = next(waiting, (None, None))
        if number is None:
            exhausted = True
            return False
        worker.task = number
        if worker.ready:
            worker.left = _CLOCK * seconds
        with suppress(BrokenPipeError):  # the worker died, which the loop below detects
            worker.pipe.send(task)
        return True

    try:
        while True:
            for worker in team:
                if worker.task is None:
                    assign(worker)
            while len(team) < workers and not exhausted and len(finished) < _HELD * workers:
                team.append(start())
                assign(team[-1])
            while turn in finished:
                yield finished.pop(turn)
                turn += 1
            busy = [worker for worker in team if worker.task is not None]
            if not busy:
                if exhausted:
                    return
                continue
            started = time.monotonic()
            ready = wait([worker.pipe for worker in busy], timeout=_TICK)
            passed = min(time.monotonic() - started, 2 * _TICK)
            for worker in busy:
                worker.left -= passed
                if worker.pipe not in ready and worker.left > 0:
                    continue
                result = (
                    _receive(worker, seconds) if worker.pipe in ready else Failure(f"took longer than {seconds:g} s")
                )
                if result == _READY and not worker.ready:
                    worker.ready, worker.left = True, _CLOCK * seconds
                    continue
                if isinstance(result, Exception):
                    raise result
                assert worker.task is not None
                finished[worker.task] = result
                worker.task = None
                if isinstance(result, Failure):
                    _end(worker)
                    team.remove(worker)
    finally:
        for worker in team:
            _end(worker)


def _receive(worker: _Worker, seconds: float) -> Any:
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(5)
        if worker.process.exitcode == -getattr(signal, "SIGXCPU", 0):
            return Failure(f"took longer than {seconds:g} s")
        return Failure(f"its process died (exit code {worker.process.exitcode})")


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


def _serve(function: Callable[[Any], Any], pipe: Connection, seconds: float, memory: int) -> None:
    """Run tasks in the worker until the pipe closes."""
    _limit("RLIMIT_AS", memory)
    pipe.send(_READY)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: Any
        _limit("RLIMIT_CPU", math.ceil(sum(os.times()[:2]) + seconds))
        try:
            answer = function(task)
        except KeyboardInterrupt:
            return
        except (MemoryError, RecursionError):
            answer = Failure(f"needs more memory than {memory / 2**30:g} GiB")
        except Exception as error:
            answer = error
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


def _limit(what: str, value: int) -> None:
    """Set a resource limit on this process, on Linux."""
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(getattr(resource, what))
        resource.setrlimit(
            getattr(resource, what), (value if hard == resource.RLIM_INFINITY else min(value, hard), hard)
        )
