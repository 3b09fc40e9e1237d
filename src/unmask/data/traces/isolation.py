"""Work on untrusted files: each in a process that may fail, hang or eat memory without harm to the others.

Every worker takes one task at a time, so when one dies or exceeds its time the task to blame is known: it is reported as a
``Failure``, the process is replaced, and the rest goes on. Results come in the order of the tasks, and only a few are held.

Time is that of the processor, so that a busy machine gives the same results; a task that only waits is stopped after ten times
as long on the clock, which stands still while we do (a laptop that sleeps).
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

_CLOCK = 10  # seconds on the clock for each second of the processor
_TICK = 1.0  # seconds between looks at the clock
_STARTING = 120.0  # seconds that a process may take to be ready
_READY = "ready"
_HELD = 4  # finished results per worker that may wait for their turn


@dataclass(frozen=True)
class Failure:
    """A task that gave no result, and why, in a few words."""

    reason: str


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: int | None = None
    left: float = _STARTING  # seconds on the clock
    ready: bool = False


def isolated(
    function: Callable[[Any], Any], tasks: Iterable[Any], workers: int, seconds: float, memory: int
) -> Iterator[Any]:
    """``function`` of every task, in order; where there is no result, a ``Failure``.

    Args:
        function: picklable, as are tasks and results. What it raises is a bug and is raised here.
        workers: processes.
        seconds: of processor time for one task (rounded up).
        memory: bytes of address space for one process (where the system can limit it).
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
        """Give it the next task, if there is one and results are not piling up."""
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
        with suppress(BrokenPipeError):  # it died; found out below
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
            begun = time.monotonic()
            ready = wait([worker.pipe for worker in busy], timeout=_TICK)
            passed = min(time.monotonic() - begun, 2 * _TICK)
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
                finished[worker.task] = result  # type: ignore[index]
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
    """In the worker: answer tasks until the pipe closes."""
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
    """Let the system enforce a limit on this process, where it can."""
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(getattr(resource, what))
        resource.setrlimit(
            getattr(resource, what), (value if hard == resource.RLIM_INFINITY else min(value, hard), hard)
        )
