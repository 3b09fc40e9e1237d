"""What each order restores of held-out text, against the network evaluations it takes.

Half of the tokens of held-out windows are hidden and filled greedily; quality is the share restored exactly. Fixed budgets run
at several numbers of steps, adaptive rules at several bounds. Writes the table as JSON and a plot beside it.

    python benchmarks/order.py --model runs/demo --rows 32 --out order.png
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.build import load
from unmask.contracts import SpecialIds
from unmask.data.store import TokenStore
from unmask.decode.canvas import Canvas
from unmask.decode.loop import unmask
from unmask.decode.named import make_rules
from unmask.evaluate.windows import Windows, stack

BUDGETS: dict[str, dict[str, Any]] = {
    "random": {"order": "random"},
    "ancestral": {"order": "random", "ancestral": True},
    "left to right": {"order": "left_to_right"},
    "top probability": {"order": "top_prob"},
    "margin": {"order": "prob_diff"},
    "entropy": {"order": "entropy"},
    "drawn probability": {"order": "drawn_prob"},
    "top probability, blocks of 16": {"order": "top_prob", "block_length": 16},
    "blocks of 16, prefix cache": {"order": "top_prob", "block_length": 16, "cache": "prefix"},
    "blocks of 16, dual cache": {"order": "top_prob", "block_length": 16, "cache": "dual"},
}
ADAPTIVE: dict[str, tuple[dict[str, Any], str, tuple[float, ...]]] = {
    "threshold": ({"order": "top_prob"}, "threshold", (0.3, 0.5, 0.7, 0.9)),
    "cumulative error": ({"order": "top_prob"}, "cumulative_error", (0.3, 1.0, 3.0, 10.0)),
    "factor": ({"order": "top_prob"}, "factor", (1.0, 2.0, 4.0, 8.0)),
    "entropy bound": ({"order": "entropy"}, "entropy_bound", (0.3, 1.0, 4.0, 16.0)),
}


def half_hidden(folder: Path, block: int, rows: int, special: SpecialIds) -> tuple[Canvas, Tensor]:
    """Whole windows of held-out text with half of their tokens hidden, and the text ``[B, L]``."""
    windows = Windows.of_store(TokenStore.open(folder / "valid"), block)
    whole = [row for row in windows.rows if len(row) == block] or list(windows.rows)
    chosen = np.random.default_rng(0).permutation(len(whole))[:rows]
    text, real, may_hide = stack([whole[i] for i in chosen], special, torch.device("cpu"))
    hidden = may_hide & (torch.rand(text.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    return Canvas.infill(text.masked_fill(hidden, special.mask), special, real), text


def restored(model: Any, canvas: Canvas, text: Tensor, special: SpecialIds, **options: Any) -> dict[str, float]:
    """Evaluations of a row and share of its hidden tokens restored, with the 95% interval's half width, over rows."""
    decoded = unmask(model, canvas, make_rules(special=special, temperature=0.0, **options), special=special, seed=0)
    hidden = canvas.blanks(special.mask)
    share = ((decoded.ids == text) & hidden).sum(-1).double() / hidden.sum(-1).clamp(min=1)
    half_width = 1.96 * float(share.std()) / math.sqrt(len(share))
    return {"evaluations": float(decoded.steps_taken.double().mean()), "restored": float(share.mean()), "half_width": half_width}


def plot(curves: dict[str, list[dict[str, float]]], picture: Path, title: str) -> None:
    """One line per order; evaluations on a logarithmic axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        ordered = sorted(points, key=lambda p: p["evaluations"])
        style = {"linestyle": "--", "marker": "s"} if name in ADAPTIVE else {"linestyle": "-", "marker": "o"}
        axes.plot([p["evaluations"] for p in ordered], [100 * p["restored"] for p in ordered], label=name, markersize=4, **style)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("network evaluations per row")
    axes.set_ylabel("hidden tokens restored, %")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(picture, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="run folder, with its data beside it")
    parser.add_argument("--rows", type=int, default=64, help="held-out windows")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--out", type=Path, default=Path("order.png"), help="the plot; figures go beside it as .json")
    options = parser.parse_args()
    loaded = load(options.model)
    special, block = SpecialIds.of(loaded.tokenizer), loaded.config.data.block_size
    canvas, text = half_hidden(options.model / "data", block, options.rows, special)
    most = int(canvas.blanks(special.mask).sum(-1).max())
    curves: dict[str, list[dict[str, float]]] = {}
    for name, rule in BUDGETS.items():
        blocks = math.ceil(block / rule.get("block_length", block))
        curves[name] = [restored(loaded.model, canvas, text, special, max_steps=n, **rule) for n in options.steps if n >= blocks]
    for name, (rule, bound, values) in ADAPTIVE.items():
        curves[name] = [
            {bound: v, **restored(loaded.model, canvas, text, special, max_steps=most, **rule, **{bound: v})} for v in values
        ]
    report = {"model": str(options.model), "step": loaded.step, "rows": len(text), "block": block, "orders": curves}
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    plot(curves, options.out, f"{len(text)} held-out rows of {block} tokens, half of them hidden")
    for name, points in curves.items():
        print(f"{name:30}" + "  ".join(f"{p['evaluations']:.0f}: {p['restored']:.1%}" for p in points))
    print(f"evaluations: tokens restored; ± {100 * curves['random'][-1]['half_width']:.1f} points at 95%")


if __name__ == "__main__":
    main()
