"""Countdown: use given numbers, each once, to reach a target (Stream of Search, Gandhi et al. 2024, 2404.03683).

A row is ``3,7,12:57=`` with the answer ``12*7=84,…``: steps of +, -, * and / on numbers that are left, the last of which gives
the target. Differences are positive and quotients whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.tasks.catalogue import row_draw, small_config
from unmask.tasks.equation_lines import read_equations

_STEP = re.compile(r"(\d+)([+\-*/])(\d+)=(\d+)")


@dataclass(frozen=True)
class Countdown:
    """Rows of countdown.

    Attributes:
        numbers: how many are given.
        largest: largest given number.
        target: largest target.
    """

    numbers: int = 3
    largest: int = 20
    target: int = 100

    @property
    def config(self) -> dict[str, Any]:
        """Recommended sections of the config."""
        return small_config(24 * self.numbers)

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return rows number ``0 .. count - 1`` of a seed.

        Raises:
            ValueError: fewer than two numbers.
        """
        if self.numbers < 2 or self.target < self.largest:
            raise ValueError(
                f"Countdown has two numbers or more and a target of at least the largest one; got numbers={self.numbers}, target={self.target}."
            )
        return [self._row(seed, number) for number in range(count)]

    def _row(self, seed: int, number: int) -> dict[str, str]:
        draw = row_draw("countdown", seed, number)
        while True:
            given = [draw.randint(1, self.largest) for _ in range(self.numbers)]
            left, steps = given.copy(), list[str]()
            while len(left) > 1:
                a, b = sorted((left.pop(draw.randrange(len(left))) for _ in range(2)), reverse=True)
                signs = ["+", "*", *("-" * (a > b)), *("/" * (a % b == 0))]
                sign = draw.choice(signs)
                result = _apply(a, sign, b)
                steps.append(f"{a}{sign}{b}={result}")
                left.append(result)
            if left[0] <= self.target and all(int(step.rpartition("=")[2]) <= 10 * self.target for step in steps):
                return {"prompt": f"{','.join(map(str, given))}:{left[0]}=", "answer": ",".join(steps)}

    def read(self, path: Path) -> list[dict[str, str]]:
        """Return the rows of a text file with one ``numbers:target=steps`` a line.

        Raises:
            ValueError: a line of another form.
        """
        return read_equations(path, ":", "3,7,12:57=steps")

    def is_valid(self, row: Mapping[str, str], answer: str) -> bool:
        """Tell whether the steps are correct, use every number once, and end at the target."""
        given, _, target = row["prompt"].rstrip("=").partition(":")
        left = [int(number) for number in given.split(",")]
        for step in answer.split(","):
            match = _STEP.fullmatch(step)
            if match is None:
                return False
            a, sign, b, result = int(match[1]), match[2], int(match[3]), int(match[4])
            for number in (a, b):
                if number not in left:
                    return False
                left.remove(number)
            if (sign == "/" and (b == 0 or a % b)) or _apply(a, sign, b) != result:
                return False
            left.append(result)
        return left == [int(target)]

    def group(self, row: Mapping[str, str]) -> str:
        """Return an empty name: all rows are of one kind."""
        return ""


def _apply(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a // b


COUNTDOWN = Countdown()
