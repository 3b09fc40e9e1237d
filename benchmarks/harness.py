"""Shared parts of all benchmarks: threads, tables, and JSON with a description of the machine."""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from unmask.allocator import limit_product_caches, tune_malloc
from unmask.cli.screen import table
from unmask.measure.machine import describe_machine
from unmask.measure.report_table import COLUMNS, Row
from unmask.storage import write_json

RESULTS = Path(__file__).parent / "results"
P, T = ParamSpec("P"), TypeVar("T")


def arguments(doc: str | None, threads: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with ``--json`` and ``--threads`` (None = torch's default); ``doc`` is the script's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--threads", type=int, default=threads or torch.get_num_threads())
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, with the threads set and freed memory kept, which spares every contestant the page faults."""
    options = parser.parse_args()
    _begin(options.threads)
    return options


def in_fresh_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return a function's result from a fresh process with as many threads; earlier large work slows work of
    milliseconds.
    """
    return _apart(_begin, function, *arguments, **named)


def in_default_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """As :func:`in_fresh_process`, with the system's malloc settings, as in a user's own program."""
    return _apart(torch.set_num_threads, function, *arguments, **named)


def _apart(begin: Callable[[int], None], function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    with ProcessPoolExecutor(1, get_context("spawn"), begin, (torch.get_num_threads(),)) as pool:
        return pool.submit(function, *arguments, **named).result()


def _begin(threads: int) -> None:
    tune_malloc()
    limit_product_caches()
    torch.set_num_threads(threads)


def short_turns(calls: Mapping[str, Callable[[], object]], rounds: int, each: int = 5) -> dict[str, float]:
    """Median seconds of calls of less than a few milliseconds, which take turns of ``each`` calls."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # not measured: the one before it left its own data in the caches
            for _ in range(each):
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    table(title, list(columns), [list(row) for row in cells])


def show_rows(title: str, rows: Sequence[Row]) -> None:
    """Figures beside their targets on standard output."""
    show(title, COLUMNS, [row.cells() for row in rows])


def results_file(machine: dict[str, Any], benchmark: str = "") -> Path:
    """Where the figures of a machine are kept, and those of a benchmark of its own."""
    name = f"{benchmark} {machine['processor']} {machine['threads']} threads"
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def write(path: Path | None, benchmark: str, report: dict[str, Any]) -> None:
    """The report as JSON, with the machine it is about; nothing without a path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"benchmark": benchmark, "machine": describe_machine(), **report})
