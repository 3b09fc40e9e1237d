"""Callbacks of a run: progress, metrics on disk, samples, and a clean stop.

``metrics.csv`` is one long table of ``step, name, value``. Rows after the step that a run resumes from are dropped, so a
resumed run writes the same table as an uninterrupted one.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask import allocator
from unmask.storage import write_text
from unmask.training.loggers import log_sample
from unmask.training.sharding import whole_weights

HEADER = ("step", "name", "value")
_SAMPLE_MARK = "── step "


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """Return the rows ``(step, name, value)`` of a ``metrics.csv``.

    A last line without a line end (the process was killed) and malformed lines are skipped.
    """
    if not path.is_file():
        return []
    rows = []
    *complete, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")  # a complete line has a line end
    for line in complete:
        try:
            step, name, value = line.split(",")
            rows.append((int(step), name, float(value)))
        except ValueError:
            continue
    return rows


class MetricsTable(Callback):
    """Append metrics to ``metrics.csv``: training loss averaged over ``every`` steps, and every validation.

    Args:
        path: the file.
        every: steps between rows of training metrics.
    """

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
        # Averages span from one multiple of `every` to the next; an interruption in between does not change them.
        if trainer.global_step % self.every == 0:
            finite = [loss for loss in self.losses if math.isfinite(loss)]  # the others are of skipped steps
            self.write(trainer, "train/loss", math.fsum(finite) / len(finite) if finite else math.nan)
            for name in ("train/loss_error", "train/lr"):  # values of this step, not averages
                self.write(trainer, name, float(trainer.callback_metrics[name]))
            self.losses = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in ("valid/loss", "valid/accuracy"):
            if name in trainer.callback_metrics:
                self.write(trainer, name, float(trainer.callback_metrics[name]))

    def write(self, trainer: Trainer, name: str, value: float) -> None:
        """Write one row and flush it to disk."""
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
        self.teardown(trainer, pl_module, "fit")  # Lightning calls teardown of callbacks only on success


class ProgressLine(Callback):
    """Show losses, tokens per second and remaining time: a live bar on a terminal, otherwise lines.

    Off a terminal there is a line for the first step of this process, one per ``every`` steps, and one per validation.

    Args:
        console: a Rich console.
        every: steps between lines without a terminal.
        tokens_per_step: tokens of the global batch.
        unit: what the loss is a mean over, in place of ``token``, such as ``text``; ``tokens_per_step`` counts it.
    """

    def __init__(self, console: Console, every: int, tokens_per_step: float, unit: str = "token") -> None:
        self.console = console
        self.every = every
        self.tokens_per_step = tokens_per_step
        self.unit = unit
        self.bar: Progress | None = None
        self.smooth_loss: float = math.nan
        self.valid: str = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first_step: int = trainer.global_step
        self.began: float = time.monotonic()
        self.paused: float = 0.0
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
            self.task: Any = self.bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
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
        words = f"loss {self.smooth_loss:.3f} nats/{self.unit}"
        speed = f"{rate:,.0f} {self.unit}s/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=trainer.global_step, description=f"{words}{self.valid} · {speed}")
        elif steps == 1 or trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            left = (trainer.max_steps - trainer.global_step) * seconds / steps
            self.line(trainer, f"{words} · {speed} · {left:.0f} s left")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_began: float = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.paused += time.monotonic() - self.validation_began
        if "valid/loss" in trainer.callback_metrics:
            loss, accuracy = (float(trainer.callback_metrics[f"valid/{name}"]) for name in ("loss", "accuracy"))
            words = f"validation loss {loss:.3f} nats/{self.unit}"
            self.valid = f" · {words} (step {trainer.global_step})"
            if self.bar is None and trainer.is_global_zero:
                self.line(trainer, f"{words} · {accuracy:.1%} of scored {self.unit}s correct")

    def line(self, trainer: Trainer, words: str) -> None:
        """Print a line that begins with the step."""
        self.console.print(f"step {trainer.global_step}/{trainer.max_steps} · {words}", highlight=False, soft_wrap=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning calls teardown of callbacks only on success


def _step_of(part: str) -> float:
    """Return the step of a sample; infinite for one whose first line is incomplete, because the process was killed."""
    number, end, _ = part.partition("\n")
    return int(number) if end and number.isdigit() else math.inf


class SampleLog(Callback):
    """Append a sample of the network to ``samples.txt`` at each validation; the averaged weights are used if there are any.

    A resumed run drops the samples after the step that it resumes from.

    Args:
        path: the file.
        sampler: network -> text. The caller provides it, because training does not import the decoder.
    """

    def __init__(self, path: Path, sampler: Callable[[Any], str]) -> None:
        self.path = path
        self.sampler = sampler

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.path.is_file():
            parts = self.path.read_text(encoding="utf-8", errors="replace").split(_SAMPLE_MARK)[1:]
            kept = [part for part in parts if _step_of(part) <= trainer.global_step]
            write_text(self.path, "".join(_SAMPLE_MARK + part for part in kept))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with whole_weights(pl_module):
            text = self.sampler(pl_module.model) if trainer.is_global_zero else ""
        if trainer.is_global_zero:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{_SAMPLE_MARK}{trainer.global_step}\n{text}\n\n")
            log_sample(trainer.logger, text, trainer.global_step)


class CleanStop(Callback):
    """End training after the current step, with a checkpoint, on a signal; on a second signal end it at once.

    The signals are Ctrl-C, SIGTERM, SIGHUP, and SIGUSR1, which SLURM sends before the time of a job ends. All processes of a run
    end after the same step, whichever of them got the signal.

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
            print("\nStopping after this step, with a checkpoint. Press again to stop at once.", file=sys.stderr)

        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):  # SIGHUP: the terminal was closed; Windows has none
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) is signal.SIG_IGN:  # such as under nohup
                continue
            try:
                self.before[number] = signal.signal(number, stop)
            except ValueError:  # signal handlers can be set only in the main thread
                return

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Trainer.should_stop would stop between two accumulation passes and run an extra validation.
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1:
            number = torch.tensor(int(self.stopped or 0), device=pl_module.device)
            agreed = int(trainer.strategy.reduce(number, reduce_op="max"))
            self.stopped = signal.Signals(agreed) if agreed else None
        if self.stopped is not None:
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning calls teardown of callbacks only on success


class MemoryWatch(Callback):
    """Check the memory of the process after the first step and then every ``every`` batches (``unmask.allocator``)."""

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.stepped: bool = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        first = not self.stepped and trainer.global_step > 0
        self.stepped |= first
        if first or (batch_idx + 1) % self.every == 0:
            allocator.watch.look()
