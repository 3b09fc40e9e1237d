"""Growth of a step's cost with sequence length, vocabulary, batch and depth, against its theoretical limit.

    python -m benchmarks.scaling [--turns 3] [--plot docs/scaling.png] [--json scaling.json]

One size grows at a time from 6 layers, width 384, vocabulary 32,000, MLM at 15%, fp32. The exponent is the slope of a
least-squares line through the logarithms of the three largest points, where fixed costs (mainly the optimiser's) matter
least. Limits: proportional to vocabulary, batch and depth, and with length as fast as counted FLOPs (between 1 and 2),
up to the measurement's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from unmask.measure.flops import Size
from unmask.measure.report_table import Row
from unmask.measure.step import ours
from unmask.measure.turns import take_turns
from unmask.measure.work import masked_rows

SIZE = Size()
SLACK = 0.1  # how far over its law an exponent may be for the noise of a few turns
# What grows -> its values; everything else is as in `point`.
AXES: dict[str, tuple[int, ...]] = {
    "sequence length": (128, 256, 512, 1024, 2048),
    "vocabulary": (8_000, 16_000, 32_000, 64_000, 128_000),
    "batch": (1, 2, 4, 8, 16),
    "depth": (1, 2, 4, 8, 16),
}


def point(axis: str, value: int, size: Size = SIZE) -> tuple[Size, int, int]:
    """Size, rows and length of a point: 2 rows of 256 tokens, but for what grows."""
    if axis == "sequence length":
        return size, 1, value
    if axis == "vocabulary":
        return replace(size, vocabulary=value), 2, 256
    if axis == "batch":
        return size, value, 128
    return replace(size, layers=value), 2, 256


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """``k`` of the power law ``y = c x^k`` that is nearest, in logarithms, to the three largest points."""
    return float(np.polyfit(np.log(x[-3:]), np.log(y[-3:]), 1)[0])


def measure(
    turns: int, axes: dict[str, tuple[int, ...]] | None = None, size: Size = SIZE, progress: Any = None
) -> dict[str, Any]:
    """Per axis: values, median seconds, counted FLOPs, and both exponents."""
    found = {}
    for axis, values in (axes or AXES).items():
        contestants, flops = {}, []
        for value in values:
            of_point, rows, length = point(axis, value, size)
            work = masked_rows(rows, length, of_point.vocabulary)
            contestants[str(value)] = ours(of_point, work)
            flops.append(of_point.step_flops(work.lengths, work.scored))
        timings = take_turns(contestants, turns, progress=progress)
        seconds = [timings[str(value)].median for value in values]
        law = exponent(values, flops) if axis == "sequence length" else 1.0
        found[axis] = {
            "values": list(values), "seconds": seconds, "flops": flops,
            "exponent": exponent(values, seconds), "flops_exponent": exponent(values, flops), "law": law,
        }  # fmt: skip
    return found


def rows_of(found: dict[str, Any]) -> list[Row]:
    """One row per axis: the measured exponent beside the law's."""
    return [
        Row.single(f"cost grows with {axis}, power", "", of["exponent"], of["law"] + SLACK, unit="", at_most=True)
        for axis, of in found.items()
    ]


def plot(found: dict[str, Any], picture: Path, of_what: str = "seconds of a training step") -> None:
    """A panel per axis: measured points, and the counted FLOPs, if any, at the speed of the largest point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (axis, of) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        if "flops" in of:
            rate = of["flops"][-1] / of["seconds"][-1]
            counted = f"counted FLOPs, power {of['flops_exponent']:.2f}"
            axes.plot(of["values"], [f / rate for f in of["flops"]], color="0.6", label=counted)
        axes.plot(of["values"], of["seconds"], "o-", color="tab:blue", label=f"measured, power {of['exponent']:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=axis)
        axes.set_xticks(of["values"], [f"{value // 1000}k" if value >= 4000 else str(value) for value in of["values"]])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel(of_what)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, format="png")


def section(turns: int, picture: Path | None, progress: Any = None) -> tuple[list[Row], dict[str, Any]]:
    """Rows and report, and the plot."""
    found = measure(turns, AXES, SIZE, progress)
    if picture is not None:
        plot(found, picture)
    return rows_of(found), {"axes": found}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="draw it here")
    options = harness.parse(parser)
    rows, report = section(options.turns, options.plot)
    harness.show_rows("growth of a step's cost", rows)
    harness.write(options.json, "scaling", {**report, "rows": [row.as_dict() for row in rows]})


if __name__ == "__main__":
    main()
