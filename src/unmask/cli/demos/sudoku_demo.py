"""``unmask demo sudoku``: a model of solved grids solves puzzles in the order that it chooses, beside a random order.

``unmask demo text`` ends with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.text import Text

    from unmask.runs import LoadedRun

FULL: dict[str, Any] = {
    "task": "sudoku6",
    "grids": 4000,
    "puzzles": 100,
    "model": {"d_model": 96, "num_layers": 4, "nhead": 4, "rotary_emb_dim": 16},
    "train": {"steps": 400, "batch_size": 96, "evaluate_every": 200, "checkpoint_every": 100, "evaluate_rows": 100},
}
QUICK: dict[str, Any] = {
    "task": "sudoku4",
    "grids": 200,
    "puzzles": 40,
    "model": {"d_model": 48, "num_layers": 2, "nhead": 2, "rotary_emb_dim": 16},
    "train": {"steps": 120, "batch_size": 64, "evaluate_every": 60, "checkpoint_every": 40, "evaluate_rows": 40},
}
# Order of filling: name -> order of the decoder. Every cell is filled by its likeliest digit, one per forward pass.
OWN, RANDOM = "its own order", "random order"
ORDERS = {OWN: "top_prob", RANDOM: "random"}
PICTURE_FILE, PAGE = "decodes.json", "solving.html"


def demo(quick: bool, run: Path, watch: bool | None, device: str = "auto", dtype: str = "auto") -> None:
    """Train on solved grids, solve puzzles in two orders, draw one; ``watch`` None draws the decoding on a terminal."""
    from unmask.cli.demos.closing import list_results

    solve_sudoku(quick, run, watch, device, dtype)
    list_results(
        run,
        (
            (PAGE, "one puzzle in both orders, step by step: open it in a browser"),
            ("evaluation.json", "the figures above"),
            ("rows/", "the solved grids and the puzzles"),
            ("config.yaml", "every setting, with its meaning"),
            ("checkpoints/", "weights (safetensors) and training state"),
        ),
        (
            ("unmask", "task", _settings(quick)["task"], "--score", str(run), "--order", "entropy"),
            ("unmask", "orders", str(run), "--rows", "64", "--out", "orders.png"),
            ("unmask", "tune", str(run)),
        ),
    )


def solve_sudoku(
    quick: bool, run: Path, watch: bool | None, device: str = "auto", dtype: str = "auto", first: int = 1
) -> dict[str, Any]:
    """Train on solved grids, and solve puzzles in the order of confidence and in random order.

    Args:
        quick: 4 × 4 cells and a smaller network, instead of 6 × 6.
        run: the run folder; a finished run is not trained again.
        watch: draw the decoding in the terminal; None = on a terminal.
        device: device of training and decoding.
        dtype: dtype of training.
        first: number of the first heading.

    Returns:
        The content of ``evaluation.json``: puzzles solved in each order.
    """
    from unmask.build.run import train
    from unmask.cli.demos.placing import demo_config
    from unmask.cli.screen import NOTES, heading, preparing, show
    from unmask.runs import load_run
    from unmask.tasks.catalogue import TASKS
    from unmask.tasks.task_files import read_rows

    settings = _settings(quick)
    task = TASKS[settings["task"]]
    side = task.rules.side
    heading(f"{first} · train on solved sudoku grids of {side} × {side} cells: no puzzle, no rule is given")
    sections = task.config
    files = write_rows(task, run / "rows", settings)
    tree = {
        **sections,
        "data": {**sections["data"], "source": str(files["train"]), "valid_source": str(files["valid"])},
        "model": {**sections["model"], **settings["model"]},
        "train": settings["train"],
    }
    with preparing() as progress:
        train(demo_config(tree, run, device, dtype), console=NOTES, progress=progress)
    loaded = load_run(run, device=device)

    puzzles = read_rows(task, str(files["valid"]))
    heading(f"{first + 1} · solve {len(puzzles)} puzzles: the order matters")
    report = _report(loaded, task, puzzles, run)
    _draw(loaded, task, puzzles, report, run, NOTES.is_terminal if watch is None else watch)
    show(sentence(report), style="bold")
    return report


def sentence(report: Mapping[str, Any]) -> str:
    """Return the result of a report in words."""
    own, random = (report["orders"][name]["solved"] for name in (OWN, RANDOM))
    return (
        f"The model solved {own} of {report['puzzles']} puzzles in the order it chose itself, {random} in random order."
    )


def write_rows(task: Any, folder: Path, settings: Mapping[str, Any]) -> dict[str, Path]:
    """Write solved grids to train on, all of whose cells are blank, and puzzles to solve; complete files are kept.

    Args:
        task: the sudoku task.
        folder: destination.
        settings: ``grids`` and ``puzzles``, the numbers of rows.

    Returns:
        The files ``train`` and ``valid``.
    """
    import json

    from unmask.storage import write_text
    from unmask.tasks.catalogue import row_draw

    files = {name: folder / f"{name}.jsonl" for name in ("train", "valid")}
    folder.mkdir(parents=True, exist_ok=True)
    if not files["valid"].is_file():
        rows = task.generate(settings["puzzles"], seed=1)
        write_text(files["valid"], "".join(json.dumps(row) + "\n" for row in rows))
    if not files["train"].is_file():
        grids = (task.rules.grid(row_draw("demo", 0, number)) for number in range(settings["grids"]))
        rows = [{"puzzle": "0" * len(grid), "solution": grid} for grid in grids]
        write_text(files["train"], "".join(json.dumps(row) + "\n" for row in rows))
    return files


def _settings(quick: bool) -> dict[str, Any]:
    return QUICK if quick else FULL


def _report(loaded: LoadedRun, task: Any, puzzles: Sequence[Mapping[str, str]], run: Path) -> dict[str, Any]:
    """Solve the puzzles in both orders, or read the report of this step."""
    from unmask.cli.screen import counting, table
    from unmask.storage import read_json, write_json
    from unmask.tasks.catalogue import answer_of, score_answers

    file = run / "evaluation.json"
    report: dict[str, Any] = read_json(file) if file.is_file() else {}
    if report.get("step") != loaded.step or report.get("puzzles") != len(puzzles):
        orders = {}
        for name in ORDERS:
            with counting(f"solving in {name}") as progress:
                answers, passes = _answers(loaded, puzzles, name, progress)
            score = score_answers(task, puzzles, answers)
            solved = [answer == answer_of(row) for answer, row in zip(answers, puzzles, strict=True)]
            orders[name] = {
                "solved": sum(solved),
                "exact": score.exact.as_dict(),
                "forward_passes": passes,
                "wrong": [number for number, right in enumerate(solved) if not right],
            }
        report = {"model": str(loaded.folder), "step": loaded.step, "puzzles": len(puzzles), "orders": orders}
        write_json(file, report)
    rows = []
    for name, each in report["orders"].items():
        value, low, high = (f"{100 * each['exact'][key]:.0f}%" for key in ("value", "low", "high"))
        rows.append([name, f"{each['solved']} of {len(puzzles)}", f"{value} ({low} to {high})"])
    table("Likeliest digit, one cell at a time; only the order differs", ["order", "solved", "95% interval"], rows)
    return report


def _answers(
    loaded: LoadedRun, rows: Sequence[Mapping[str, str]], name: str, progress: Any = None, observers: Any = ()
) -> tuple[list[str], float]:
    """Return the answers in one order, and the mean number of forward passes."""
    from functools import partial

    from unmask.cli.decoding import Decoding
    from unmask.text.task_answers import decode_answers

    rules = partial(Decoding(order=ORDERS[name], temperature=0.0).rules, loaded.model, loaded.tokenizer)
    return decode_answers(loaded.model, loaded.tokenizer, rows, rules, progress=progress, observers=observers)


def _draw(
    loaded: LoadedRun,
    task: Any,
    puzzles: Sequence[Mapping[str, str]],
    report: Mapping[str, Any],
    run: Path,
    watch: bool,
) -> None:
    """Solve one puzzle in both orders: live in the terminal, then side by side, and as a page."""
    from contextlib import nullcontext

    from unmask.cli.screen import NOTES, show
    from unmask.decode.observers.trace import Trace
    from unmask.decode.render.cells import CellsView
    from unmask.decode.render.page import recorded_html, trace_data
    from unmask.storage import write_json, write_text

    wrong = {name: set(each["wrong"]) for name, each in report["orders"].items()}
    telling = sorted(wrong[RANDOM] - wrong[OWN])
    number = telling[0] if telling else 0
    row, box = puzzles[number], (task.height, task.width)
    answers, runs = {}, []
    for name in ORDERS:
        trace = Trace(top_k=3)
        view = CellsView(loaded.tokenizer, box, NOTES, pause=0.08 if name == OWN else 0.02) if watch else None
        with view if view is not None else nullcontext():
            observers = [trace] if view is None else [trace, view]
            answers[name] = _answers(loaded, [row], name, observers=observers)[0][0]
        data = trace_data(trace, loaded.tokenizer, [name])
        runs += data["runs"]
    for each in runs:
        each["tokens"] = each["tokens"][: len(row["solution"])]  # without the end-of-text token
    data |= {
        "runs": runs,
        "beside": True,
        "cells": {"columns": task.rules.side, "box": list(box), "solution": row["solution"]},
    }
    write_json(
        run / PICTURE_FILE, {"puzzle": row["puzzle"], "solution": row["solution"], "box": list(box), "runs": runs}
    )
    write_text(run / PAGE, recorded_html(data, "A masked diffusion model solves a sudoku", sentence(report)))
    drawn = [_solved(row, answers[name], box) for name in ORDERS]
    chosen = "the first that only its own order solves" if telling else "the first"
    mistakes = (sum(map(str.__ne__, answers[name], row["solution"])) for name in ORDERS)
    counts = " · ".join(f"{name}: {wrong} wrong" for name, wrong in zip(ORDERS, mistakes, strict=True))
    show(f"Puzzle {number + 1}, {chosen} ({counts}):", style="dim")
    for left, right in zip(*(text.split("\n") for text in drawn), strict=True):
        _show_lines(left, right)


def _solved(row: Mapping[str, str], answer: str, box: tuple[int, int]) -> Text:
    """Return an answer as a square: clues dim, right digits green, wrong ones red."""
    from rich.text import Text

    from unmask.decode.render.cells import cells_text

    cells = []
    for clue, truth, digit in zip(row["puzzle"], row["solution"], answer, strict=True):
        style = "dim" if clue != "0" else "bold #10867f" if digit == truth else "bold reverse #c44218"
        cells.append(Text(digit, style=style))
    return cells_text(cells, box)


def _show_lines(left: Text, right: Text) -> None:
    from unmask.cli.screen import RESULTS, on_terminal

    line = left + "     " + right
    if on_terminal():
        RESULTS.print(line, soft_wrap=True)
    else:
        print(line.plain)
