"""Figures beside their targets: one table for the terminal, for JSON and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unmask.measure.turns import Ratio


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        work: what was done.
        beside: what it is compared with.
        value, low, high: the figure and its spread (equal where there is none).
        target: what it should reach; None = it is only told.
        unit: ``"×"``, ``"%"`` (the figure is a share) or a unit of its own.
        at_most: the target is an upper bound.
    """

    work: str
    beside: str
    value: float
    low: float
    high: float
    target: float | None = None
    unit: str = "×"
    at_most: bool = False

    @classmethod
    def of(cls, work: str, beside: str, ratio: Ratio, target: float | None = None, **more: Any) -> Row:
        """A row from a ratio with its spread."""
        return cls(work, beside, ratio.value, ratio.low, ratio.high, target, **more)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def mark(self) -> str:
        """✓, ✗ or nothing."""
        return {True: "✓", False: "✗", None: ""}[self.met]

    def cells(self) -> list[str]:
        """Work, beside, figure, spread, target, mark."""
        bound = "" if self.target is None else f"{'≤' if self.at_most else '≥'} {self._number(self.target)}"
        spread = "" if self.low == self.high else f"{self._number(self.low)} – {self._number(self.high)}"
        return [self.work, self.beside, self._number(self.value), spread, bound, self.mark]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("work", "beside", "value", "low", "high", "target", "unit", "at_most", "met")
        return {name: getattr(self, name) for name in names}

    def _number(self, value: float) -> str:
        if self.unit == "%":
            return f"{value:.1%}" if abs(value) < 0.1 else f"{value:.0%}"
        if self.unit == "×":
            return f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"
        return f"{value:,.{0 if value >= 100 else 1}f} {self.unit}"


COLUMNS = ["work", "beside", "figure", "spread", "target", ""]


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """The table on standard output."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(COLUMNS):
        drawn.add_column(column, justify="left" if number < 2 else "right")
    for row in rows:
        drawn.add_row(*row.cells())
    Console().print(drawn)


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown, without the spread."""
    lines = ["| work | beside | figure | target | |", "|---|---|---|---|---|"]
    for row in rows:
        work, beside, figure, _, target, mark = row.cells()
        lines.append(f"| {work} | {beside} | {figure} | {target} | {mark} |")
    return "\n".join(lines) + "\n"
