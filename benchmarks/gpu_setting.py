"""What all sections of ``benchmarks.gpu`` share: sizes, notes that survive a failure, and contestants that may fail."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unmask.measure.flops import Size
from unmask.measure.machine import describe_machine
from unmask.measure.report_table import Row
from unmask.measure.step import TrainingStep
from unmask.measure.turns import finish
from unmask.storage import write_json

Step = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """Sizes of a run."""

    size: Size
    rows: int = 32
    length: int = 1024
    turns: int = 20
    device: str = "cuda"
    compiled: bool = True
    batches: tuple[int, ...] = (1, 16, 64)
    new_tokens: int = 128
    steps: int = 64
    workers: int = 4

    @classmethod
    def toy(cls) -> Setting:
        """Every section on a CPU, in seconds."""
        return cls(Size(1, 16, 2, 32, 60), 2, 32, 1, "cpu", False, (1, 2), 8, 4, 0)


@dataclass
class Notes:
    """Rows and report of one section, written to a file after every part."""

    path: Path
    seconds: float = 600.0
    rows: list[Row] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=lambda: {"errors": {}})
    began: float = field(default_factory=time.monotonic)

    @property
    def accelerator(self) -> str:
        """Name of the device, empty without one."""
        return torch.cuda.get_device_name() if torch.cuda.is_available() else ""

    @property
    def left(self) -> float:
        """Seconds until the section is stopped."""
        return self.seconds - (time.monotonic() - self.began)

    def row(self, row: Row) -> None:
        """Add a figure."""
        self.rows.append(row)
        self.save()

    def failed(self, name: str, error: BaseException) -> None:
        """Add an error: its last lines."""
        lines = "".join(traceback.format_exception(error)).strip().splitlines()
        self.report["errors"][name] = "\n".join(lines[-12:])[-3000:]
        print(f"    {name} failed: {lines[-1][:300]}", flush=True)
        self.save()

    def save(self) -> None:
        """Write what there is."""
        rows = [row.as_dict() for row in self.rows]
        seconds = round(time.monotonic() - self.began, 1)
        write_json(self.path, {"rows": rows, "machine": describe_machine(), "took": seconds, **self.report})


def prepare(makers: dict[str, Callable[[], Step]], setting: Setting, notes: Notes, reserve: float = 0.25) -> dict[str, Step]:  # fmt: skip
    """Make contestants and call each three times: the first call compiles, the last gives the peak of memory.

    One that fails is noted and left out. Once only ``reserve`` of the time is left, the others are left out.
    """
    made: dict[str, Step] = {}
    notes.report |= {"first_call_seconds": {}, "peak_mib": {}}
    for name, make in makers.items():
        if made and notes.left < reserve * notes.seconds:
            notes.failed(name, TimeoutError("left out: little time was left"))
            continue
        started = time.monotonic()
        try:
            step = make()
            step()
            finish(setting.device)
            notes.report["first_call_seconds"][name] = round(time.monotonic() - started, 1)
            step()
            if setting.device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                own = step.held_bytes if isinstance(step, TrainingStep) else 0
                others = torch.cuda.memory_allocated() - own
                step()
                torch.cuda.synchronize()
                notes.report["peak_mib"][name] = (torch.cuda.max_memory_allocated() - others) / 2**20
        except Exception as error:
            notes.failed(name, error)
            continue
        made[name] = step
        print(f"    {name}: ready after {time.monotonic() - started:.1f} s", flush=True)
        notes.save()
    graphs = torch._dynamo.utils.counters["stats"].get("unique_graphs", 0) if setting.compiled else 0
    notes.report["graphs"] = graphs
    return made
