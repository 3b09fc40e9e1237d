"""Figures beside their targets: rows for the terminal, for JSON and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unmask.measure.turns import Ratio

COLUMNS = ["work, beside whom", "figure", "over turns", "target", ""]


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        work: the measured work.
        beside: the peer; empty for a figure without one.
        value, low, high: the figure and its spread over turns (equal without spread).
        target: the value to reach; None = no target.
        unit: ``"×"``, ``"%"`` (the figure is a fraction), ``""`` or another unit.
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
    def of(cls, work: str, beside: str, ratio: Ratio, target: float | None = None, *, unit: str = "×") -> Row:
        """Return a row from a ratio with its spread."""
        return cls(work, beside, ratio.value, ratio.low, ratio.high, target, unit)

    @classmethod
    def single(
        cls,
        work: str,
        beside: str,
        value: float,
        target: float | None = None,
        *,
        unit: str = "×",
        at_most: bool = False,
    ) -> Row:
        """Return a row of a figure measured once."""
        return cls(work, beside, value, value, value, target, unit, at_most)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def cells(self) -> list[str]:
        """Return name, figure, spread, target and mark: the columns of ``COLUMNS``."""
        name = f"{self.work}, beside {self.beside}" if self.beside else self.work
        bound = "" if self.target is None else f"{'≤' if self.at_most else '≥'} {self._number(self.target)}"
        spread = (
            ""
            if self.low == self.high
            else f"{self._number(self.low).removesuffix(self.unit)}–{self._number(self.high)}"
        )
        return [name, self._number(self.value), spread, bound, {True: "✓", False: "✗", None: ""}[self.met]]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self) | {"met": self.met}

    def _number(self, value: float) -> str:
        if self.unit == "%":
            return f"{value:.1%}" if abs(value) < 0.1 else f"{value:.0%}"
        number = f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
        return f"{number}{self.unit}" if self.unit == "×" else f"{number} {self.unit}".strip()


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, without the spread. Every figure has its target beside it, so that misses show."""
    lines = ["| work, beside whom | figure | target | |", "|---|---|---|---|"]
    for row in rows:
        name, figure, _, bound, mark = row.cells()
        lines.append(f"| {name} | {figure} | {bound} | {mark} |")
    return "\n".join(lines) + "\n"
