"""Kill training at random moments, run it again until it ends, and compare with an uninterrupted run.

    python -m tests.faults.matrix --kills 60

Every subject runs `train` in its own process, dies by SIGKILL at a given moment, and is started again. A third of the kills
falls inside a save, a sixth inside `prepare`, the others at a random time. Weights, metrics and files must be those of a run that nobody
killed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import subject
from tests.faults.subject import config_tree

MOMENTS = ("save", "prepare", "time")
LIMIT = 120  # seconds of one process
CONTEXT = multiprocessing.get_context("forkserver")


@dataclass
class Table:
    """Counts by kind of moment, and what went wrong."""

    injected: Counter = field(default_factory=Counter)
    survived: Counter = field(default_factory=Counter)
    rows_lost: int = 0
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __str__(self) -> str:
        lines = [f"{'moment':<10}{'injected':>10}{'survived':>10}"]
        lines += [f"{kind:<10}{self.injected[kind]:>10}{self.survived[kind]:>10}" for kind in MOMENTS]
        lines.append(f"{'all':<10}{self.injected.total():>10}{self.survived.total():>10}")
        return "\n".join([*lines, f"rows of metrics lost or doubled: {self.rows_lost}", *self.faults])


class Subject:
    """A training process, forked from a server that has imported everything; it dies at a moment of ``subject.main``."""

    def __init__(self, tree: dict, kill: str) -> None:
        self.armed = CONTEXT.Event()
        self.process = CONTEXT.Process(target=subject.main, args=(tree, kill, self.armed))
        self.process.start()

    def finish(self, seconds: float | None = None) -> bool:
        """Wait for the end, or kill the process ``seconds`` after it began; return whether it was killed."""
        self.armed.wait(LIMIT)
        self.process.join(LIMIT if seconds is None else seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            if seconds is None:
                raise RuntimeError(f"a subject did not end within {LIMIT} s")
        if self.process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"a subject failed with exit code {self.process.exitcode}; its traceback is above")
        return self.process.exitcode == -signal.SIGKILL


def state(run: Path) -> dict:
    """Return what a finished run left: weights, metrics and names of files, without those of the loggers and locks."""
    index = json.loads((run / "checkpoints" / "index.json").read_text())
    names = {str(f.relative_to(run)) for f in run.rglob("*") if "tensorboard" not in f.parts and f.suffix != ".lock"}
    return {
        "weights": (run / "checkpoints" / index["last"] / "model.safetensors").read_bytes(),
        "metrics": (run / "metrics.csv").read_text().splitlines(),
        "files": names,
        "index": index,
    }


def one_run(number: int, kinds: list[str], folder: Path, whole: dict, seconds: float, ema: float, table: Table) -> None:
    """Kill one run at the moments of ``kinds``, let it end, and compare."""
    rng, run = random.Random(number), folder / f"run-{number}"
    tree = config_tree(run, folder / "corpus", ema)
    injected: Counter = Counter()
    for kind in kinds:
        moment = "never" if kind == "time" else f"{kind}:{rng.randrange(1, 60 if kind == 'save' else 12)}"
        if Subject(tree, moment).finish(rng.uniform(0, seconds) if kind == "time" else None):
            injected[kind] += 1
    Subject(tree, "never").finish()
    found = state(run)
    wrong = [name for name in whole if whole[name] != found[name]]
    with table.lock:
        table.injected += injected
        if wrong:
            table.faults.append(f"run {number} after {kinds} (ema={ema}) differs in {', '.join(wrong)}")
            if "files" in wrong:
                table.faults.append(f"  files: {sorted(whole['files'] ^ found['files'])[:6]}")
        else:
            table.survived += injected
        more, fewer = Counter(found["metrics"]), Counter(whole["metrics"])
        table.rows_lost += ((more - fewer) + (fewer - more)).total()
    shutil.rmtree(run)


def matrix(kills: int, processes: int = 2) -> Table:
    """Inject at least ``kills`` kills and return the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    CONTEXT.set_forkserver_preload(["tests.faults.subject"])
    table, folder = Table(), Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        wholes = {}
        for ema in (0.0, 0.999):
            tree = config_tree(folder / f"whole-{ema}", folder / "corpus", ema)
            whole = Subject(tree, "never")
            whole.armed.wait(LIMIT)
            clock = time.monotonic()
            whole.finish()
            seconds = time.monotonic() - clock
            wholes[ema] = state(folder / f"whole-{ema}")
        number = 0
        # The first kill of every run may fall into prepare, which runs once; a third of all falls into a save.
        plans = (
            ["prepare", "save", "time", "time"],
            ["time", "save", "save", "time"],
            ["prepare", "time", "save", "time"],
        )
        while table.injected.total() < kills and not table.faults:
            with ThreadPoolExecutor(processes) as pool:
                waiting = [
                    pool.submit(one_run, n, list(plans[n % 3]), folder, wholes[ema], seconds, ema, table)
                    for n, ema in zip(range(number, number + processes), (0.999, 0.0) * processes, strict=False)
                ]
                for each in waiting:
                    each.result()
            number += processes
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="kills to inject")
    parser.add_argument("--processes", type=int, default=2, help="runs at once")
    given = parser.parse_args()
    began = time.monotonic()
    result = matrix(given.kills, given.processes)
    print(result, f"{time.monotonic() - began:.0f} s", sep="\n")
    raise SystemExit(bool(result.faults or result.rows_lost))
