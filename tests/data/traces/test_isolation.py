"""A failing task does not affect the other tasks."""

import pytest

from tests.data.traces.tasks import task
from unmask.data.traces.isolation import Failure, isolated


def test_a_task_that_crashes_hangs_or_exhausts_memory_fails_alone(monkeypatch):
    monkeypatch.setattr("unmask.data.traces.isolation._CLOCK", 4)
    tasks = [1, "die", 2, "hang", 3, "eat", "sleep", 4]
    results = list(isolated(task, tasks, workers=2, seconds=1, memory=2**32))
    assert [r for r in results if not isinstance(r, Failure)] == [1, 2, 3, 4]
    assert [r.reason for r in results if isinstance(r, Failure)] == [
        "its process died (exit code 7)", "took longer than 1 s", "needs more memory than 4 GiB", "took longer than 1 s",
    ]  # fmt: skip
    assert [isinstance(r, Failure) for r in results] == [isinstance(t, str) for t in tasks]


def test_a_bug_in_a_task_is_raised_here():
    with pytest.raises(KeyError, match="bug"):
        list(isolated(task, [1, "bug", 2], workers=1, seconds=5, memory=2**32))


def test_results_are_ordered_and_few_are_buffered():
    given = []

    def tasks():
        for number in range(40):
            given.append(number)
            yield number

    results = isolated(task, tasks(), workers=1, seconds=5, memory=2**32)
    assert next(results) == 0 and len(given) < 10
    assert list(results) == list(range(1, 40))
