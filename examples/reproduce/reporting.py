"""A reproduction: commands of ``unmask``, the figures that they print, pass marks, and one JSON file.

A script describes one result: it runs commands, takes figures from their JSON, and saves. The file holds every figure with its command, the published
figure and the pass mark, and the wall time, processor time, machine and seeds. A command that is done is not run again: its output is kept beside the run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unmask.measure.machine import describe_machine

FOLDER = Path("runs/reproduce")
Mark = tuple[str, Callable[[float], bool]]


def parser(text: str) -> argparse.ArgumentParser:
    """Return the options that all scripts share; ``text`` is the docstring of the script."""
    options = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="the reduced version of `make reproduce-quick`")
    options.add_argument(
        "--toy", action="store_true", help="sizes of a test: the figures mean nothing, and no mark is applied"
    )
    options.add_argument(
        "--runs", type=Path, default=FOLDER, help="folder of the runs, which are resumed; default: %(default)s"
    )
    options.add_argument(
        "--results", type=Path, help="folder of the JSON file; default: results in the folder of the runs"
    )
    options.add_argument("--seed", type=int, default=0, help="seed of data, training and decoding")
    return options


class Reproduction:
    """One result in the making.

    Args:
        number: of the result.
        title: of the result.
        options: of :func:`parser`.
    """

    def __init__(self, number: int, title: str, options: argparse.Namespace) -> None:
        self.number: int = number
        self.title: str = title
        self.size: str = "toy" if options.toy else "quick" if options.quick else "full"
        self.seed: int = options.seed
        self.name: str = Path(sys.argv[0]).stem
        self.runs: Path = options.runs / self.size
        self.results: Path = options.results or options.runs / "results"
        self.commands: list[dict[str, Any]] = []
        self.figures: list[dict[str, Any]] = []
        self.notes: list[str] = []
        print(f"{number}. {title} ({self.size})", flush=True)

    def pick(self, *, full: Any, quick: Any, toy: Any) -> Any:
        """Return the setting of this size."""
        return {"full": full, "quick": quick, "toy": toy}[self.size]

    def run(self, *words: object, makes: Path | None = None) -> dict[str, Any]:
        """Run a command of ``unmask``, and return the JSON that it prints (empty for others).

        Args:
            words: the command.
            makes: a file or folder that it writes; if that is gone, a command that was done is run again.

        Raises:
            SystemExit: the command failed; its messages are above.
        """
        arguments = [str(word) for word in words]
        command = shlex.join(["unmask", *arguments])
        kept = self.runs / "commands" / f"{hashlib.sha256(command.encode()).hexdigest()[:16]}.json"
        record = {"command": command, "seconds": 0.0, "processor_seconds": 0.0, "done": False}
        if kept.is_file() and (makes is None or makes.exists()):
            record = json.loads(kept.read_text(encoding="utf-8"))
        print(f"$ {command}" + (f"   # done, in {record['seconds']:.0f} s" if record["done"] else ""), flush=True)
        if not record["done"]:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with _timed(record, kept):
                done = subprocess.run([sys.executable, "-m", "unmask", *arguments], stdout=subprocess.PIPE, text=True)
                if done.returncode:
                    raise SystemExit(f"{command}\nended with code {done.returncode}; its messages are above.")
                record |= {"done": True, "output": json.loads(done.stdout) if "--json" in arguments else {}}
        self.commands.append({key: record[key] for key in ("command", "seconds", "processor_seconds")})
        return record["output"]

    def task(self, name: str, rows: int, *settings: str, source: Path | None = None, folder: str = "") -> Path:
        """Write the rows of a task into a folder, by default of its name, and return the path of its config."""
        place = self.runs / f"{folder or name}-rows"
        given = [word for setting in settings for word in ("--set", setting)] + (
            ["--source", str(source)] if source else []
        )
        self.run("task", name, "--out", place, "--rows", rows, "--seed", self.seed, *given, makes=place)
        return place / "config.yaml"

    def prepare(self, name: str, *words: object) -> Path:
        """Prepare a text, or find it done, and return the folder of its stores."""
        store = self.runs / f"{name}-data"
        self.run("prepare", *words, "--out", store, makes=store)
        return store

    def train(self, name: str, *words: object) -> Path:
        """Train a run, or resume it, and return its folder."""
        run = self.runs / name
        self.run("train", *words, f"run={run}", f"seed={self.seed}", makes=run)
        return run

    def figure(
        self, name: str, estimate: dict[str, Any] | float, unit: str, *, published: str = "", mark: Mark | None = None
    ) -> float:
        """Add a figure of the last command, and return its value.

        Args:
            name: what is measured.
            estimate: a number, or one with its 95% interval.
            unit: ``"%"`` for fractions, which are shown in percent.
            published: the published figure with its source.
            mark: what a figure must fulfil, in words and as a function.
        """
        kept = estimate if isinstance(estimate, dict) else {"value": estimate}
        value = float(kept["value"])
        wanted, keeps = mark if mark else ("", None)
        passed = None if keeps is None or self.size == "toy" else bool(keeps(value))
        self.figures.append(
            {"name": name, "value": value, "low": kept.get("low"), "high": kept.get("high"), "unit": unit, "published": published, "mark": wanted,
             "passed": passed, "command": self.commands[-1]["command"]}
        )  # fmt: skip
        return value

    def note(self, sentence: str) -> None:
        """Add a remark to the result, such as why a figure is missed."""
        self.notes.append(sentence)

    def save(self) -> int:
        """Print the table, write the JSON file, and return 1 if a mark is missed, else 0."""
        report = {
            "result": self.number, "title": self.title, "size": self.size,
            "command": shlex.join(["python", f"examples/reproduce/{self.name}.py", *sys.argv[1:]]),
            "seconds": sum(each["seconds"] for each in self.commands),
            "processor_seconds": sum(each["processor_seconds"] for each in self.commands),
            "machine": describe_machine(), "seeds": [self.seed], "figures": self.figures, "notes": self.notes, "commands": self.commands,
        }  # fmt: skip
        self.results.mkdir(parents=True, exist_ok=True)
        file = self.results / f"{self.name}.{self.size}.json"
        file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print("\n" + "\n".join(table(self.figures)))
        print(
            f"\n{report['seconds']:.0f} s ({report['processor_seconds']:.0f} s of processor time). Wrote {file}.\n",
            flush=True,
        )
        return int(any(each["passed"] is False for each in self.figures))


@contextmanager
def _timed(record: dict[str, Any], file: Path) -> Iterator[None]:
    """Add the time of a command to its record, and write it, interruptions included."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        yield
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        record["seconds"] += time.monotonic() - start
        record["processor_seconds"] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        file.write_text(json.dumps(record), encoding="utf-8")


def shown(figure: dict[str, Any], key: str = "value") -> str:
    """Return a number of a figure as text: percent for fractions, four digits for others."""
    value = figure[key]
    return f"{100 * value:.1f}%" if figure["unit"] == "%" else f"{value:.4g}"


def cells(figure: dict[str, Any]) -> list[str]:
    """Return the cells of a figure: name, value with interval, published figure, mark."""
    interval = f" ({shown(figure, 'low')} to {shown(figure, 'high')})" if figure["low"] is not None else ""
    unit = "" if figure["unit"] == "%" else f" {figure['unit']}"
    verdict = {True: ": passed", False: ": missed", None: ""}[figure["passed"]]
    return [figure["name"], shown(figure) + interval + unit, figure["published"], figure["mark"] + verdict]


def table(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table of figures."""
    rows = [["figure", "ours (95% interval)", "published", "pass mark"], *map(cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def at_least(bound: float, unit: str = "%") -> Mark:
    """Return the mark ``≥ bound``."""
    return f"≥ {100 * bound:g}%" if unit == "%" else f"≥ {bound:g}", lambda value: value >= bound


def at_most(bound: float, unit: str = "%") -> Mark:
    """Return the mark ``≤ bound``."""
    return f"≤ {100 * bound:g}%" if unit == "%" else f"≤ {bound:g}", lambda value: value <= bound
