"""What commands put on the screen: progress, tables, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

NOTES = Console(stderr=True)  # progress and remarks; results go to standard output
RESULTS = Console()

STAGES = {"tokenizer": "training the tokenizer", "train": "tokenising training text", "valid": "tokenising held-out text"}


@contextmanager
def counting(title: str, console: Console = NOTES) -> Iterator[Callable[[int, int | None], None]]:
    """A bar that is told ``(done, total)``; in a pipe one line at the end."""
    if not console.is_terminal:
        last: list[int] = [0]

        def remember(done: int, total: int | None) -> None:
            last[0] = done

        yield remember
        console.print(f"{title}: {last[0]:,} done", highlight=False)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield update


@contextmanager
def preparing(console: Console = NOTES) -> Iterator[Callable[[int, int | None, str], None]]:
    """Progress of ``unmask.data.prepare``: one bar per stage."""
    if not console.is_terminal:
        seen: set[str] = set()

        def announce(done: int, total: int | None, stage: str) -> None:
            if stage not in seen:
                seen.add(stage)
                console.print(f"{STAGES.get(stage, stage)} …", highlight=False)

        yield announce
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("documents"))
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def update(done: int, total: int | None, stage: str) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(STAGES.get(stage, stage), total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield update


def table(title: str, columns: list[str], rows: list[list[str]], console: Console = RESULTS) -> None:
    """A table whose first column is text and whose others are figures."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))
