"""Output of commands: progress, results, tables and JSON.

Results go to standard output, progress and remarks to standard error. Without a terminal, output is plain: text is not wrapped,
styled or cut, and tables are tab-separated. Characters outside the encoding of the console are escaped (JSON is then ASCII).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

NOTES = Console(stderr=True)  # progress and remarks
RESULTS = Console()

STAGES = {
    "duplicates": "looking for duplicates",
    "split": "choosing the validation split",
    "tokenizer": "training the tokenizer",
    "train": "tokenising training text",
    "valid": "tokenising validation text",
    "merge": "merging the parts",
}


@contextmanager
def counting(title: str, console: Console = NOTES) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a progress callback ``(done, total)``: a bar on a terminal, otherwise one line at the end."""
    if not console.is_terminal:
        last: list[int] = [0]

        def remember(done: int, total: int | None) -> None:
            last[0] = done

        yield remember
        console.print(Text(f"{title}: {last[0]:,} done"))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield update


@contextmanager
def preparing(console: Console = NOTES) -> Iterator[Callable[[int, int | None, str], None]]:
    """Yield a progress callback ``(done, total, stage)`` for preparations: one bar, or one line, per stage."""
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


def on_terminal() -> bool:
    """Tell whether standard output is a terminal; colours forced by the environment do not count."""
    return sys.stdout.isatty()


def show(text: str, style: str = "") -> None:
    """Print a result verbatim on standard output; ``style`` applies on terminals."""
    if on_terminal():
        RESULTS.print(Text(text, style=style), soft_wrap=True)
    else:
        print(text)


def note(text: str, style: str = "") -> None:
    """Print a remark verbatim on standard error."""
    NOTES.print(Text(text, style=style), soft_wrap=True)


def heading(text: str) -> None:
    """Print the title of a part."""
    if on_terminal():
        RESULTS.rule(Text(text, style="bold"), align="left")
    else:
        print(text)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; the first column is text, the others are figures.

    On a narrow terminal the first column is folded and figures are never cut. Without a terminal: a line ``# title``, then
    tab-separated values with a line of column names; tabs and line ends inside a value are written ``\\t`` and ``\\n``.
    """
    if not on_terminal():
        print(f"# {_one_cell(title)}")
        for row in [columns, *rows]:
            print("\t".join(map(_one_cell, row)))
        return
    drawn = Table(title=Text(title), title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        drawn.add_column(
            Text(column),
            justify="left" if number == 0 else "right",
            no_wrap=number > 0,
            overflow="fold",
            min_width=8 if number == 0 else None,
        )
    for row in rows:
        drawn.add_row(*map(Text, row))
    figures = [max(len(row[number]) for row in [columns, *rows]) for number in range(1, len(columns))]
    needed = 8 + sum(figures) + 3 * len(columns) + 1
    # A terminal too narrow even for the figures breaks the lines.
    drawn.width = needed if RESULTS.width < needed else None
    RESULTS.print(drawn, crop=False)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(_as_json(value, indent=2))


def print_json_line(value: Any) -> None:
    """Print one JSON object as a line of standard output, and flush it."""
    print(_as_json(value), flush=True)


def _as_json(value: Any, indent: int | None = None) -> str:
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "") == "utf8"
    return json.dumps(value, ensure_ascii=not unicode, indent=indent)


def _one_cell(text: str) -> str:
    return text.replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
