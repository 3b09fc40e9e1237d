"""The bound on the time of a command (``--seconds``)."""

from __future__ import annotations

import time
from typing import Any


class TimeIsUp(Exception):
    """The time of the command has passed."""


class TimeLimit:
    """An observer that ends a decode after a time, to within one forward pass.

    Args:
        seconds: time from the construction on.

    Raises:
        ValueError: a time that is not positive.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"--seconds {seconds:g} is too short: choose a time above 0.")
        self.seconds = seconds
        self.end_time = time.monotonic() + seconds

    def update_history(self, step_results: Any) -> None:
        """Raise ``TimeIsUp`` once the time has passed."""
        if time.monotonic() > self.end_time:
            raise TimeIsUp


def unfinished(names: list[str], done: int, seconds: float) -> ValueError:
    """Return the error that names what a command did not finish.

    Args:
        names: names of all rows.
        done: number of finished rows.
        seconds: the bound.
    """
    left = names[done:]
    shown = ", ".join(left[:20]) + (f" and {len(left) - 20} more" if len(left) > 20 else "")
    return ValueError(
        f"{len(left)} of {len(names)} rows are not filled after --seconds {seconds:g}: {shown}. Raise --seconds, or run the command "
        "again with these rows."
    )
