"""What watches a run: progress, metrics on disk, samples, and a clean stop.

``metrics.csv`` is one long table, ``step, name, value``: rows beyond the step that a run resumes from are dropped, so a resumed
run leaves the same table as an uninterrupted one.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask import allocator
from unmask.storage import write_text

HEADER = ("step", "name", "value")
_SAMPLE_MARK = "── step "


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """The rows of a ``metrics.csv``; a last line cut short by a kill, and what is no row at all, are left out."""
    if not path.is_file():
        return []
    rows = []
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")  # a line is whole once its end is there
    for line in whole:
        try:
            step, name, value = line.split(",")
            rows.append((int(step), name, float(value)))
        except ValueError:
            continue
    return rows


class MetricsTable(Callback):
    """Appends metrics to ``metrics.csv``: training loss averaged over ``every`` steps, validation as it comes."""

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self.losses: list[float] = []
        self.file: TextIO | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        kept = [row for row in read_metrics(self.path) if row[0] <= trainer.global_step]
        lines = [",".join(HEADER)] + [f"{step},{name},{value!r}" for step, name, value in kept]
        write_text(self.path, "\n".join(lines) + "\n")
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in teardown)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        # Averaged from one multiple of `every` to the next, wherever a run was interrupted in between.
        if trainer.global_step % self.every == 0:
            self.write(trainer, "train/loss", math.fsum(self.losses) / len(self.losses))
            for name in ("train/loss_error", "train/lr"):  # of this step
                self.write(trainer, name, float(trainer.callback_metrics[name]))
            self.losses = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in ("valid/loss", "valid/accuracy"):
            if name in trainer.callback_metrics:
                self.write(trainer, name, float(trainer.callback_metrics[name]))

    def write(self, trainer: Trainer, name: str, value: float) -> None:
        """One row, on the disk at once."""
        if self.file is not None:
            self.file.write(f"{trainer.global_step},{name},{value!r}\n")
            self.file.flush()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = list(state_dict["losses"])

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning tears callbacks down only after success


class ProgressLine(Callback):
    """Loss, tokens per second and time left: a live bar on a terminal, one line per ``every`` steps in a pipe.

    Args:
        console: where to write.
        every: steps between lines in a pipe.
        tokens_per_step: of the whole batch.
    """

    def __init__(self, console: Console, every: int, tokens_per_step: int) -> None:
        self.console = console
        self.every = every
        self.tokens_per_step = tokens_per_step
        self.bar: Progress | None = None
        self.smooth_loss = math.nan
        self.valid = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first_step = trainer.global_step
        self.began = time.monotonic()
        self.paused = 0.0
        if trainer.is_global_zero and self.console.is_terminal:
            columns = (
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
            )
            self.bar = Progress(*columns, console=self.console, refresh_per_second=4)
            self.task = self.bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
            self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not trainer.is_global_zero:
            return
        loss = float(trainer.callback_metrics["train/loss"])
        self.smooth_loss = loss if math.isnan(self.smooth_loss) else 0.95 * self.smooth_loss + 0.05 * loss
        steps = trainer.global_step - self.first_step
        seconds = time.monotonic() - self.began - self.paused
        rate = steps * self.tokens_per_step / max(seconds, 1e-9)
        words = f"loss {self.smooth_loss:.3f}{self.valid} · {rate:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=trainer.global_step, description=words)
        elif trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            left = (trainer.max_steps - trainer.global_step) * seconds / steps
            self.console.print(
                f"step {trainer.global_step}/{trainer.max_steps} · {words} · {left:.0f} s left", highlight=False
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.paused += time.monotonic() - self.validation_began
        if "valid/loss" in trainer.callback_metrics:
            self.valid = f" · held out {float(trainer.callback_metrics['valid/loss']):.3f}"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning tears callbacks down only after success


class SampleLog(Callback):
    """At each validation, appends what ``sampler`` makes of the network to ``samples.txt``, the averaged one if there is one.

    A run that resumes drops what it wrote beyond the step it resumes from.

    Args:
        path: the file.
        sampler: network -> text. Training knows nothing of decoding; the caller brings it.
    """

    def __init__(self, path: Path, sampler: Callable[[Any], str]) -> None:
        self.path = path
        self.sampler = sampler

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.path.is_file():
            parts = self.path.read_text(encoding="utf-8", errors="replace").split(_SAMPLE_MARK)[1:]
            kept = [part for part in parts if int(part.split("\n", 1)[0]) <= trainer.global_step]
            write_text(self.path, "".join(_SAMPLE_MARK + part for part in kept))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            text = self.sampler(pl_module.model)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{_SAMPLE_MARK}{trainer.global_step}\n{text}\n\n")


class CleanStop(Callback):
    """Ctrl-C or a termination signal ends training after the step under way, with a checkpoint; a second one at once.

    Attributes:
        stopped: the signal that ended training early, or None.
    """

    def __init__(self) -> None:
        self.stopped: signal.Signals | None = None
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def stop(number: int, frame: Any) -> None:
            if self.stopped is not None:
                raise KeyboardInterrupt
            self.stopped = signal.Signals(number)
            print("\nStopping after this step; a checkpoint follows. Once more to stop at once.", file=sys.stderr)

        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, stop)
            except ValueError:  # not the main thread: signals are somebody else's
                return

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Trainer.should_stop would stop between two accumulation passes, and validate out of turn.
        if self.stopped is not None and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning tears callbacks down only after success


class MemoryWatch(Callback):
    """Looks, after the first step and then every so many batches, whether the process has grown (``unmask.allocator``)."""

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.stepped = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        first = not self.stepped and trainer.global_step > 0
        self.stepped |= first
        if first or (batch_idx + 1) % self.every == 0:
            allocator.watch.look()
