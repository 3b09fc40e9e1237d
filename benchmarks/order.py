"""Quality of each unmasking order against the number of forward passes.

On generated sudoku of 6 × 6 cells: a network of 450,000 parameters is trained on complete grids (a minute or two, once;
``--run``), then solves puzzles with a unique solution in every order, with several numbers of forward passes or bounds.
Quality is the fraction of puzzles solved completely, with Wilson's 95% interval. With ``--model`` the text network of a
run fills held-out windows with half of their tokens masked, and quality is the fraction of tokens restored.

    python -m benchmarks.order --plot docs/orders.png --json benchmarks/results/order.json
    python -m benchmarks.order --model runs/demo --rows 32 --plot order.png
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.order_plot import plot
from benchmarks.sudoku import asked, config_of, trained
from unmask.cli.screen import counting
from unmask.contracts import SpecialIds
from unmask.data.store.token_store import TokenStore
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.evaluate.estimate import proportion, ratio
from unmask.evaluate.windows import Windows, stack
from unmask.runs import load_run
from unmask.tasks.sudoku import Sudoku

GREEDY, DRAWN = "greedy", "drawn"


@dataclass(frozen=True)
class Family:
    """One way to decode, at several settings of one knob.

    Attributes:
        name, panel: of the curve; ``panel`` says what it is compared with.
        options: of ``make_rules``.
        knob: the option that is varied; ``max_steps`` are evaluations.
        values: of the knob; None for ``max_steps`` = those asked for.
    """

    name: str
    panel: str
    options: dict[str, Any]
    knob: str = "max_steps"
    values: tuple[float, ...] | None = None


def families(block: int) -> list[Family]:
    """Every order, greedy and drawn; ``block`` is the length of blocks."""
    fixed = {
        "random": {"order": "random"},
        "ancestral": {"order": "ancestral"},
        "left to right": {"order": "left_to_right"},
        "top probability": {"order": "top_prob"},
        "margin": {"order": "prob_diff"},
        "entropy": {"order": "entropy"},
    }
    bounds: dict[str, tuple[str, str, tuple[float, ...]]] = {
        "threshold": ("top_prob", "threshold", (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
        "cumulative error": ("top_prob", "cumulative_error", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
        "factor": ("top_prob", "factor", (0.03, 0.1, 0.3, 1.0, 3.0)),
        "entropy bound": ("entropy", "entropy_bound", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
    }
    adaptive = [
        Family(name, "adaptive", {"order": order}, knob, values) for name, (order, knob, values) in bounds.items()
    ]
    one, top = {"order": "first_hitting"}, {"order": "top_prob", "block_length": block}
    whole: tuple[float, ...] = (10_000,)  # steps, more than blanks
    return [
        *(Family(name, GREEDY, options) for name, options in fixed.items()),
        *adaptive,
        *(Family(f"blocks of {block}{words}", "blocks", top | cache) for words, cache in (
            ("", {}), (", prefix cache", {"cache": "prefix"}), (", dual cache", {"cache": "dual"}),
            (", dual cache, refreshed every 4", {"cache": "dual", "cache_refresh": 4}),
        )),
        *(Family(name, DRAWN, options | {"temperature": 1.0}) for name, options in fixed.items()),
        Family("first hitting", DRAWN, one | {"temperature": 1.0}, values=whole),
        Family("drawn probability", DRAWN, {"order": "drawn_prob", "temperature": 1.0}),
        *(Family(f.name, DRAWN, f.options | {"temperature": 1.0}, f.knob, f.values) for f in adaptive if f.knob in ("threshold", "entropy_bound")),
    ]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Rows to fill, and what is right.

    Attributes:
        model: the network.
        canvas, answer, special: rows with blanks, the rows whole ``[B, L]``, the ids.
    """

    model: Any
    canvas: Canvas
    answer: Tensor
    special: SpecialIds

    def ask(self, **options: Any) -> dict[str, Any]:
        """One decode: what it took of a row, and what of it was right."""
        rules = make_rules(**{"special": self.special, "temperature": 0.0, **options})
        decoded = fill_canvas(self.model, self.canvas, rules, special=self.special, seed=0)
        hidden = self.canvas.blanks(self.special.mask)
        right = ((decoded.ids == self.answer) & hidden).sum(-1)
        rows = len(right)
        return {
            "forward_passes": float(decoded.steps_taken.double().mean()),
            "tokens_run": decoded.positions_computed / rows,
            "whole": proportion(int((right == hidden.sum(-1)).sum()), rows).as_dict(),
            "tokens": ratio(right[None].double().numpy(), hidden.sum(-1).numpy()).as_dict(),
        }


def measure(
    task: Task,
    block: int,
    steps: Sequence[int],
    bounds: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Every family at every setting.

    Args:
        block: length of blocks.
        steps: evaluations to ask for.
        bounds: how many settings of each bound; all if None.
        told: of ``(done, total)`` settings.

    Returns:
        Of each family its name, panel, options and points.
    """
    most = int(task.canvas.blanks(task.special.mask).sum(-1).max())
    blocks = -(-task.answer.shape[1] // block)
    settings: list[tuple[dict[str, Any], dict[str, Any], str, float]] = []
    curves = []
    for family in families(block):
        curve: dict[str, Any] = {**asdict(family), "points": []}
        del curve["values"]
        curves.append(curve)
        least = blocks if "block_length" in family.options else 1
        values = [n for n in steps if n >= least] if family.values is None else family.values
        limit = {} if family.knob == "max_steps" else {"max_steps": most}
        settings += [
            (curve, family.options | limit, family.knob, value)
            for value in (values if family.knob == "max_steps" else values[:bounds])
        ]
    for number, (curve, options, knob, value) in enumerate(settings):
        given = min(int(value), most) if knob == "max_steps" else value
        curve["points"].append({knob: given, **task.ask(**options, **{knob: given})})
        if told is not None:
            told(number + 1, len(settings))
    return curves


def sudoku_task(sudoku: Sudoku, run: Path, puzzles: int, quick: bool = False) -> Task:
    """Puzzles on grids that the network has not seen."""
    wrapper = trained(sudoku, run, quick)
    canvas, solutions, special = asked(sudoku, puzzles)
    return Task(wrapper.net, canvas, solutions, special)


def text_task(run: Path, rows: int) -> tuple[Task, dict[str, Any]]:
    """Whole windows of a run's held-out text with half of their tokens hidden."""
    loaded = load_run(run)
    special, block = SpecialIds.of(loaded.tokenizer), loaded.config.data.block_size
    windows = Windows.of_store(TokenStore.open(run / "data" / "valid"), block)
    whole = [row for row in windows.rows if len(row) == block] or list(windows.rows)
    chosen = np.random.default_rng(0).permutation(len(whole))[:rows]
    text, real, may_hide = stack([whole[i] for i in chosen], special, torch.device("cpu"))
    hidden = may_hide & (torch.rand(text.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    canvas = Canvas.infill(text.masked_fill(hidden, special.mask), special, real)
    return Task(loaded.model, canvas, text, special), {"model": str(run), "step": loaded.step, "block": block}


def show(curves: list[dict[str, Any]], quality: str) -> None:
    """One line per setting."""
    for title in dict.fromkeys(curve["panel"] for curve in curves):
        cells = [
            [
                curve["name"] if number == 0 else "", f"{point[curve['knob']]:g}", f"{point['forward_passes']:.1f}", f"{point['tokens_run']:,.0f}",
                f"{100 * point[quality]['value']:.1f}%", "{low:.1%} to {high:.1%}".format(**point[quality]), f"{100 * point['tokens']['value']:.1f}%",
            ]
            for curve in curves if curve["panel"] == title
            for number, point in enumerate(curve["points"])
        ]  # fmt: skip
        what = {"whole": "rows right", "tokens": "tokens right"}[quality]
        harness.show(title, ["order", "asked for", "forward_passes", "tokens run", what, "95%", "tokens right"], cells)


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument(
        "--run", type=Path, default=Path("runs/sudoku"), help="folder of the sudoku network: trained there, or found"
    )
    parser.add_argument("--puzzles", type=int, default=1000)
    parser.add_argument("--model", type=Path, help="ask the text network of this run instead, with its data beside it")
    parser.add_argument("--rows", type=int, default=64, help="held-out windows of text")
    parser.add_argument(
        "--steps", type=int, nargs="+", help="evaluations to ask for; more than blanks = one blank each"
    )
    parser.add_argument(
        "--quick", action="store_true", help="4 × 4 cells, a toy network, few settings: only to see it run"
    )
    parser.add_argument("--plot", type=Path, help="draw it here")
    options = harness.parse(parser)
    report: dict[str, Any]
    if options.model is None:
        sudoku = Sudoku(2, 2) if options.quick else Sudoku(2, 3)
        task = sudoku_task(
            sudoku, options.run, min(options.puzzles, 40) if options.quick else options.puzzles, options.quick
        )
        block, quality, steps = (
            2 * sudoku.side,
            "whole",
            options.steps or ([1, 4] if options.quick else [1, 2, 4, 8, 16, sudoku.cells]),
        )
        blanks = task.canvas.blanks(task.special.mask).sum(-1).double()
        report = {
            "task": "sudoku",
            "side": sudoku.side,
            "puzzles": len(task.answer),
            "blanks": float(blanks.mean()),
            "training": config_of(sudoku, options.run, options.quick).train.model_dump(include={"steps", "batch_size"}),
        }
        title = f"{len(task.answer):,} sudoku puzzles of {sudoku.side} × {sudoku.side} cells, {blanks.mean():.0f} of them blank"
    else:
        task, facts = text_task(options.model, options.rows)
        block, quality, steps = 16, "tokens", options.steps or [1, 2, 4, 8, 16, 32, 64]
        report = {"task": "text", **facts, "rows": len(task.answer)}
        title = f"{len(task.answer)} held-out rows of {facts['block']} tokens, half of them hidden"
    report |= {"parameters": sum(p.numel() for p in task.model.parameters()), "title": title, "quality": quality}
    with counting("decoding") as told:
        report["curves"] = measure(task, block, steps, 2 if options.quick else None, told)
    show(report["curves"], quality)
    harness.write(options.json, "order", report)
    if options.plot is not None:
        plot(report, options.plot)


if __name__ == "__main__":
    main()
