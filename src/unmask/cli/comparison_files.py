"""Comparisons as files: CSV, LaTeX or a plot, by suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmask.cli.row_files import write_rows
from unmask.registry import Registry
from unmask.storage import atomic_file

Report = dict[str, Any]


def comparison_cells(report: Report) -> tuple[str, list[str], list[list[str]]]:
    """Return title, columns and rows of a comparison as a table.

    Args:
        report: of ``unmask.studies.comparison.compare_runs``.
    """
    corrected = report["correction"] is not None
    title = (
        f"Upper bound on the negative log-likelihood, {report['documents']:,} documents, {report['samples']} passes "
        "(95% intervals)"
    )
    columns = ["run", "seeds", f"bits per {report['unit']}", f"minus {report['baseline']} (paired)", "p"]
    columns += ["p (Holm)"] if corrected else []
    rows = []
    for entry in report["entries"]:
        p = [entry["p_value"], *([entry["p_corrected"]] if corrected else [])]
        difference = "" if entry["difference"] is None else _interval(entry["difference"], "+")
        rows.append(
            [
                entry["name"],
                str(len(entry["seeds"]) or 1),
                _interval(entry["bits"]),
                difference,
                *("" if each is None else f"{each:.2g}" for each in p),
            ]
        )
    return title, columns, rows


def _interval(estimate: dict[str, float | None], sign: str = "") -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return f"{value:{sign}.4f}" if low is None else f"{value:{sign}.4f} ({low:{sign}.4f} to {high:{sign}.4f})"


def _csv(path: Path, report: Report) -> None:
    rows = []
    for entry in report["entries"]:
        row = {"run": entry["name"], "seeds": " ".join(map(str, entry["seeds"])), "unit": report["unit"]}
        for key in ("bits", "difference"):
            row |= {f"{key}_{part}": (entry[key] or {}).get(part) for part in ("value", "low", "high")}
        rows.append(row | {"p_value": entry["p_value"], "p_corrected": entry["p_corrected"]})
    write_rows(path, rows)


def _latex(path: Path, report: Report) -> None:
    title, columns, rows = comparison_cells(report)
    lines = [
        f"% {title}",
        f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        "\\hline",
        *(" & ".join(map(latex_text, row)) + " \\\\" + (" \\hline" if n == 0 else "") for n, row in enumerate([columns, *rows])),
        "\\hline",
        "\\end{tabular}",
    ]  # fmt: skip
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


LATEX = {"\\": "\\textbackslash{}", "^": "\\^{}", "~": "\\~{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


def latex_text(text: str) -> str:
    """Return text with the special characters of LaTeX escaped.

    Examples:
        >>> print(latex_text("run_1 & 5%"))
        run\\_1 \\& 5\\%
    """
    return "".join(LATEX.get(character, character) for character in text)


def _plot(path: Path, report: Report) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = report["entries"]
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(entries)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key in ((left, "bits"), (right, "difference")):
        for row, entry in enumerate(entries):
            estimate = entry[key] or {"value": 0.0, "low": None, "high": None}
            value, low, high = (estimate[part] for part in ("value", "low", "high"))
            bars = None if low is None else [[value - low], [high - value]]
            axes.errorbar([value], [row], xerr=bars, fmt="o", color="#0072b2" if entry[key] else "#999999", capsize=3)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yticks(range(len(entries)), [entry["name"] for entry in entries])
    left.set_ylim(len(entries) - 0.5, -0.5)
    left.set_xlabel(f"bits per {report['unit']}, upper bound")
    right.axvline(0, color="#000000", linewidth=0.8)
    right.set_xlabel(f"minus {report['baseline']}, paired")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


COMPARISON_WRITERS: Registry[Callable[[Path, Report], None]] = Registry(
    "suffix of a file of a comparison",
    {
        ".csv": (_csv, "a table of figures"),
        ".tex": (_latex, "a table for LaTeX"),
        ".png": (_plot, "a plot of values and paired differences"),
    },
)
