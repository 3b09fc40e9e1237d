"""``TASKS``: the registry of tasks, and the contract that each keeps.

A task makes rows, says whether an answer keeps its rules, and recommends a config. Rows are mappings of text with the
fields that supervised training reads: ``puzzle`` and ``solution``, ``prompt`` and ``answer``; or ``text``, for tasks with a
known distribution. Row ``i`` is a pure function of ``(seed, i)``.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from unmask.evaluate.estimate import Estimate, proportion
from unmask.registry import Registry
from unmask.tasks.names import TASK_DESCRIPTIONS

Row = Mapping[str, str]


@runtime_checkable
class Task(Protocol):
    """A problem with answers that can be checked.

    Attributes:
        config: recommended sections of the config, without ``data.source`` and ``run``.
    """

    @property
    def config(self) -> dict[str, Any]: ...

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return rows number ``0 .. count - 1`` of a seed."""
        ...

    def read(self, path: Path) -> list[dict[str, str]]:
        """Return the rows of a file in the published format of the task."""
        ...

    def is_valid(self, row: Row, answer: str) -> bool:
        """Tell whether an answer keeps the rules, whether or not it is the answer of the row."""
        ...

    def group(self, row: Row) -> str:
        """Return the name of a kind of rows that is reported apart, or an empty name."""
        ...


@runtime_checkable
class Distribution(Protocol):
    """A task whose rows are ``text`` with a known probability."""

    @property
    def config(self) -> dict[str, Any]: ...

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return rows number ``0 .. count - 1`` of a seed."""
        ...

    def nats(self, text: str) -> float:
        """Return the exact negative log-probability of a text."""
        ...


@dataclasses.dataclass(frozen=True)
class TaskScore:
    """Fractions of rows, with Wilson's 95% intervals.

    Attributes:
        rows: number of rows.
        exact: answers equal to those of their rows.
        valid: answers that keep the rules.
        groups: the same of each kind of rows.

    Examples:
        >>> from unmask.tasks.catalogue import TASKS, score_answers
        >>> task = TASKS["sudoku4"]
        >>> rows = task.generate(2, seed=0)
        >>> score_answers(task, rows, [rows[0]["solution"], "1" * 16]).valid.value
        0.5
    """

    rows: int
    exact: Estimate
    valid: Estimate
    groups: Mapping[str, TaskScore] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        groups = {"groups": {name: each.as_dict() for name, each in self.groups.items()}} if self.groups else {}
        return {"rows": self.rows, "exact": self.exact.as_dict(), "valid": self.valid.as_dict(), **groups}


def answer_of(row: Row) -> str:
    """Return the answer of a row."""
    return row["solution"] if "solution" in row else row["answer"]


def score_answers(task: Task, rows: Sequence[Row], answers: Sequence[str]) -> TaskScore:
    """Compare answers with those of their rows, and with the rules of the task.

    Args:
        task: the task.
        rows: as generated or read.
        answers: one per row.

    Raises:
        ValueError: no rows, or another number of answers.
    """
    if not rows or len(rows) != len(answers):
        raise ValueError(
            f"There are {len(rows)} rows and {len(answers)} answers: give one answer for each row, and one row or more."
        )
    exact = [answer_of(row) == answer for row, answer in zip(rows, answers, strict=True)]
    valid = [task.is_valid(row, answer) for row, answer in zip(rows, answers, strict=True)]
    names = [task.group(row) for row in rows]

    def score(numbers: list[int], groups: Mapping[str, TaskScore]) -> TaskScore:
        good = [proportion(sum(each[n] for n in numbers), len(numbers)) for each in (exact, valid)]
        return TaskScore(len(numbers), good[0], good[1], groups)

    kinds = [name for name in dict.fromkeys(names) if name]
    return score(
        [*range(len(rows))], {kind: score([n for n, name in enumerate(names) if name == kind], {}) for kind in kinds}
    )


def row_draw(name: str, seed: int, number: int) -> random.Random:
    """Return the source of randomness of one row."""
    return random.Random(f"{name} {seed} {number}")


def with_settings(task: Any, settings: Sequence[str]) -> Any:
    """Return a task with other settings.

    Args:
        task: the task, a dataclass.
        settings: such as ``clues=30``.

    Raises:
        ValueError: an unknown setting, or no whole number.
    """
    names = [field.name for field in dataclasses.fields(task) if field.init]
    changes: dict[str, int] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in names or not value.isdigit():
            raise ValueError(
                f"--set {setting} is no setting of this task. Its settings are whole numbers: {', '.join(f'{n}=…' for n in names)}."
            )
        changes[name] = int(value)
    return dataclasses.replace(task, **changes)


def small_config(block_size: int, **model: Any) -> dict[str, Any]:
    """Return the config of a small network on rows with answers of characters."""
    return {
        "data": {"kind": "supervised", "tokenizer": "characters", "block_size": block_size},
        "model": {
            "preset": None,
            "d_model": 128,
            "num_layers": 4,
            "nhead": 4,
            "rotary_emb_dim": 32,
            "max_length": block_size,
            **model,
        },
        "optim": {"name": "muon", "lr": 3e-3},
        "train": {"steps": 2000, "batch_size": 128},
    }


_PARTS = {
    "sudoku4": "unmask.tasks.sudoku_task:SUDOKU_4",
    "sudoku6": "unmask.tasks.sudoku_task:SUDOKU_6",
    "sudoku9": "unmask.tasks.sudoku_task:SUDOKU_9",
    "star_graph": "unmask.tasks.star_graphs:STAR_GRAPHS",
    "countdown": "unmask.tasks.countdown:COUNTDOWN",
    "graph_colouring": "unmask.tasks.graph_colouring:GRAPH_COLOURING",
    "markov_chain": "unmask.tasks.markov_chains:MARKOV_CHAIN",
}
TASKS: Registry[Any] = Registry("task", {name: (part, TASK_DESCRIPTIONS[name]) for name, part in _PARTS.items()})
"""The tasks of ``unmask task NAME``."""
