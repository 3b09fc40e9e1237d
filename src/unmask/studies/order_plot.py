"""The plot of a study of orders: quality against forward passes, one panel per kind of comparison, lines labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, distinct for colour-blind readers too; markers differ as well.
_BLACK, _ORANGE, _SKY, _GREEN, _BLUE, _RED, _PINK = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
STYLES: dict[str, tuple[str, str]] = {
    "random": (_ORANGE, "o"), "ancestral": (_RED, "v"), "left to right": (_PINK, "s"), "top probability": (_BLUE, "D"),
    "margin": (_SKY, "^"), "entropy": (_GREEN, "P"), "drawn probability": (_BLACK, "X"), "first hitting": (_ORANGE, "*"),
    "threshold": (_ORANGE, "o"), "cumulative error": (_RED, "v"), "factor": (_PINK, "s"), "entropy bound": (_GREEN, "P"),
}  # fmt: skip
_BLOCKS = ((_GREEN, "P"), (_ORANGE, "o"), (_RED, "v"), (_PINK, "s"))
TITLES = {
    "greedy": "the likeliest token, at fixed budgets",
    "adaptive": "the likeliest token, as many as the commit rule takes",
    "blocks": "blocks and caches, by what the network runs",
    "drawn": "tokens drawn at temperature 1",
}


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights moved up and down as little as it takes to be ``gap`` apart, in the order they were in (least squares)."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[float]] = []  # sum of (height - rank * gap), members
    for rank, i in enumerate(order):
        groups.append([heights[i] - rank * gap, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += members
    levels = [total / members for total, members in groups for _ in range(int(members))]
    moved = [0.0] * len(heights)
    for rank, i in enumerate(order):
        moved[i] = levels[rank] + rank * gap
    return moved


def plot_orders(report: dict[str, Any], picture: Path) -> None:
    """Draw the four panels of ``report["curves"]``; bars are 95% intervals.

    Args:
        report: of ``unmask.studies.order_study.study_orders``.
        picture: a PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    quality, curves = report["quality"], report["curves"]
    figure = Figure(figsize=(12.5, 9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(report["title"], x=0.01, ha="left", fontsize=13)
    grid = figure.subplots(2, 2, sharey=True)
    for axes, (panel, title) in zip(grid.flat, TITLES.items(), strict=True):
        shown = [curve for curve in curves if curve["panel"] == panel]
        if panel in ("adaptive", "blocks"):
            shown += [curve for curve in curves if curve["panel"] == "greedy" and curve["name"] == "top probability"]
        cost = "tokens_run" if panel == "blocks" else "forward_passes"
        _panel(axes, shown, cost, quality)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(
            {"tokens_run": "tokens run through the network, per row", "forward_passes": "forward passes per row"}[cost]
        )
    for axes in grid[:, 0]:
        axes.set_ylabel({"whole": "rows exactly right, %", "tokens": "masked tokens restored, %"}[quality])
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, format="png")


def _panel(axes: Any, curves: list[dict[str, Any]], cost: str, quality: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    ends, block = [], 0
    for curve in curves:
        points = sorted(curve["points"], key=lambda p: p[cost])
        if curve["name"] in STYLES:
            colour, marker = STYLES[curve["name"]]
        else:
            colour, marker = _BLOCKS[block % len(_BLOCKS)]
            block += 1
        x, y = [p[cost] for p in points], [100 * p[quality]["value"] for p in points]
        bars = [[_bar(p[quality], end) for p in points] for end in ("low", "high")]
        lone = len(points) == 1
        dashes = "--" if curve["knob"] != "max_steps" else "-"  # the rule says how many, not the budget
        axes.errorbar(
            x,
            y,
            bars,
            color=colour,
            marker=marker,
            markersize=11 if lone else 5,
            linestyle=dashes,
            linewidth=1.4,
            elinewidth=0.8,
            zorder=2 if lone else 3,
        )
        ends.append((x[-1], y[-1], colour, curve["name"].replace(", ", "\n")))
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.42)  # room for the names
    axes.set_xticks([2**power for power in range(20) if low <= 2**power <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-4, 104)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    lines = max(name.count("\n") for *_, name in ends) + 1
    gap = 5.5 if lines == 1 else 4.6 * lines
    heights = spread([y for _, y, *_ in ends], gap)
    over, under = max(0.0, max(heights) - 101), max(0.0, -1 - min(heights))  # names stay beside the panel
    for (x, y, colour, name), height in zip(ends, [height - over + under for height in heights], strict=True):
        axes.annotate(
            name, (x, y), xytext=(high * (high / low) ** 0.05, height), textcoords="data", color=colour, fontsize=9, va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkB": 3},
        )  # fmt: skip


def _bar(estimate: Mapping[str, float | None], end: str) -> float:
    """Return the length of an error bar in percent; 0 where too few rows give no interval."""
    value, limit = estimate["value"], estimate[end]
    return 0.0 if value is None or limit is None else 100 * abs(limit - value)
