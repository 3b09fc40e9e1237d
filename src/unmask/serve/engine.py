"""The thread that decodes: requests join the batch between steps and leave the moment they are done.

    submit   a bounded queue; a full one refuses (``Busy``)
    tick     end what was cancelled or is late, admit what waits, one forward pass of every request whose client keeps up
    deliver  events and results, to the event loop of the request

Scores and embeddings run in a second thread, one request at a time: they are no decodes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from unmask import allocator
from unmask.decode.continuous import ContinuousBatch, Member, Work
from unmask.serve.meters import Meters
from unmask.serve.settings import ServeSettings
from unmask.text.model import TrainedModel

log: logging.Logger = logging.getLogger("unmask.serve")
MOST_EVENTS = 64
"""Events that wait for a client; a decode with as many pauses until some are sent, so that a slow client costs no memory."""
_PAUSE = 0.02  # seconds between two looks at decodes that all pause
_GATHER = 0.05  # seconds without a new request, after which a fixed batch begins though it is not full


class Busy(Exception):
    """The queue is full, or the service stops.

    Args:
        retry_after: seconds after which to try again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("The queue is full.")
        self.retry_after = retry_after


class TooLate(Exception):
    """The time of a request is over."""


class Job:
    """One decode of a request.

    Attributes:
        events: what happens: ``(name, data)`` with the names of ``put``, then ``("done", result)`` or ``("error", exception)``.

    Args:
        seconds: time from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.begun: float = time.monotonic()
        self.deadline: float = self.begun + seconds
        self.cancelled: bool = False
        self.work: Work | None = None
        self.member: Member | None = None

    def put(self, name: str, data: Any) -> None:
        """Deliver an event; from any thread."""
        if not self.cancelled:
            try:
                self.loop.call_soon_threadsafe(self.events.put_nowait, (name, data))
            except RuntimeError:  # the loop of the request is closed
                self.cancelled = True

    @property
    def clogged(self) -> bool:
        """True while the client takes events more slowly than the decode makes them."""
        return self.events.qsize() >= MOST_EVENTS

    def cancel(self) -> None:
        """End the decode before its next step; from any thread."""
        self.cancelled = True

    async def result(self) -> Any:
        """Return the result, passing over other events; raise the error of the decode."""
        while True:
            name, data = await self.events.get()
            if name == "done":
                return data
            if name == "error":
                raise data


class Engine:
    """The decoding thread of a service.

    Args:
        trained: the model.
        settings: limits.
        meters: metrics to update.
    """

    def __init__(self, trained: TrainedModel, settings: ServeSettings, meters: Meters) -> None:
        self.trained = trained
        self.settings = settings
        self.meters: Meters = meters
        self._waiting: deque[Job] = deque()
        self._running: dict[Member, Job] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._mean_seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="unmask-engine", daemon=True)
        self._second = ThreadPoolExecutor(1, "unmask-scores")
        self._scores = 0
        self.failed: bool = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish all requests, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._second.shutdown(cancel_futures=True)

    @property
    def accepts(self) -> bool:
        """True while requests are accepted."""
        return not self._stopping and not self.failed and self._thread.is_alive()

    def submit(self, *jobs: Job) -> None:
        """Queue the jobs of one request, all or none.

        Raises:
            Busy: the queue is full, or the service stops.
        """
        with self._wake:
            room = self.settings.max_queue + self.settings.max_rows - len(self._waiting) - len(self._running)
            if not self.accepts or len(jobs) > room:
                self.meters.cancelled.labels("refused").inc(len(jobs))
                raise Busy(self._retry_after())
            self._waiting.extend(jobs)
            self.meters.waiting.set(len(self._waiting))
            self._wake.notify()

    def _retry_after(self) -> int:
        rounds = (len(self._waiting) + len(self._running)) / self.settings.max_rows
        return min(60, max(1, math.ceil(rounds * self._mean_seconds)))

    async def measure(self, function: Callable[[Callable[..., None]], Any]) -> Any:
        """Run a score or an embedding in the second thread. ``function`` receives a callback that raises once the time is over.

        Raises:
            Busy: too many wait.
            TooLate: the time is over.
        """
        if self._scores >= max(1, self.settings.max_queue) or not self.accepts:
            raise Busy(self._retry_after())
        deadline, ended = time.monotonic() + self.settings.seconds, threading.Event()

        def check(*progress: Any) -> None:
            if ended.is_set() or time.monotonic() > deadline:
                raise TooLate

        def run() -> Any:
            check()
            return function(check)

        self._scores += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._second, run)
        finally:
            ended.set()
            self._scores -= 1

    def _run(self) -> None:
        vocab = len(self.trained.tokenizer)
        try:
            hold = self.settings.batching == "static"
            with ContinuousBatch(self.trained.model, vocab_size=vocab, hold=hold) as batch:
                while self._admit(batch):
                    self._tick(batch)
        except BaseException as error:
            log.exception("The decoding thread failed.")
            self.failed = True
            for job in [*self._running.values(), *self._waiting]:
                job.put("error", RuntimeError(f"The decoding thread failed: {type(error).__name__}"))

    def _admit(self, batch: ContinuousBatch) -> bool:
        """Wait for requests, and let them join; return False when there will be no more."""
        with self._wake:
            while not self._waiting and not self._running:
                if self._stopping:
                    return False
                self._wake.wait()
            fixed = self.settings.batching != "continuous"
            if fixed and not self._running:
                self._gather()
            now, joining = time.monotonic(), list[Job]()
            for job in [job for job in self._waiting if job.cancelled or now > job.deadline]:
                self._waiting.remove(job)
                self._drop(job)
            closed = fixed and self._running
            while self._waiting and not closed and len(self._running) + len(joining) < self.settings.max_rows:
                joining.append(self._waiting.popleft())
            self.meters.waiting.set(len(self._waiting))
        for job in joining:
            assert job.work is not None
            self.meters.in_queue.observe(now - job.begun)
            job.member = batch.join(job.work)
            self._running[job.member] = job
        return True

    def _gather(self) -> None:
        """Wait for the requests of a fixed batch, until it is full or no more come."""
        seen = 0
        while seen < len(self._waiting) < self.settings.max_rows and not self._stopping:
            seen = len(self._waiting)
            self._wake.wait(_GATHER)

    def _tick(self, batch: ContinuousBatch) -> None:
        now = time.monotonic()
        for member, job in list(self._running.items()):
            if job.cancelled or now > job.deadline:
                batch.leave(member)
                del self._running[member]
                self._drop(job)
        paused = {member for member, job in self._running.items() if job.clogged}
        if paused and len(paused) == len(self._running):
            with self._wake:
                self._wake.wait(_PAUSE)
        ended = batch.advance(paused)
        self.meters.running.set(len(self._running))
        for part in batch.passes:
            self.meters.passes.inc()
            self.meters.batch_rows.observe(part.rows)
            self.meters.computed.inc(part.tokens)
        for member in ended:
            job = self._running.pop(member)
            seconds = time.monotonic() - job.begun
            self._mean_seconds += 0.05 * (seconds - self._mean_seconds)
            if member.error is not None:
                job.put("error", member.error)
            else:
                job.put("done", member.result)
        if not self._running:
            self.meters.running.set(0)
            allocator.watch.look()

    def _drop(self, job: Job) -> None:
        """Account for a request that ends early."""
        self.meters.cancelled.labels("cancelled" if job.cancelled else "late").inc()
        if job.work is not None:
            job.work.close()
        job.put("error", TooLate())
