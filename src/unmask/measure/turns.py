"""Contestants take turns in one process: A B C A B C …

A busy or throttled machine then slows all of them alike, and ratios are taken turn by turn. The figure of a contestant
is the median over turns; that of a ratio is the ratio of the medians, with the smallest and largest of a turn as its
spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Contestant = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """A speed-up: the ratio of the medians, and the extremes over turns."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """Seconds of each turn, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the median turn."""
        return statistics.median(self.seconds)

    def faster_than(self, peer: Timing, work: float = 1.0) -> Ratio:
        """Return the speed-up over ``peer``.

        Args:
            peer: timed in the same turns.
            work: work per turn relative to the peer's.

        Raises:
            ValueError: the numbers of turns differ.
        """
        if len(self.seconds) != len(peer.seconds):
            raise ValueError(
                f"A ratio needs the same number of turns of both, and got {len(self.seconds)} and {len(peer.seconds)}: time both "
                "in the same take_turns(...)."
            )
        each = [work * theirs / ours for ours, theirs in zip(self.seconds, peer.seconds, strict=True)]
        return Ratio(work * peer.median / self.median, min(each), max(each))


def finish(device: torch.device | str) -> None:
    """Wait until an accelerator has finished all queued work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    contestants: Mapping[str, Contestant],
    turns: int,
    *,
    warm_up: int = 1,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Timing]:
    """Time every contestant ``turns`` times, one after the other, after ``warm_up`` untimed rounds.

    Args:
        contestants: name -> a call that does the work once.
        turns: number of timed rounds.
        warm_up: rounds before them: the first calls allocate, compile and fill caches.
        device: of the work; each call ends with a device sync.
        progress: callback ``(calls done, all calls)``.

    Raises:
        ValueError: no contestants, or no turns.
    """
    if not contestants or turns < 1 or warm_up < 0:
        raise ValueError(
            f"Got {len(contestants)} contestants, turns={turns} and warm_up={warm_up}: give at least 1, 1 and 0."
        )
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    done, total = 0, (warm_up + turns) * len(contestants)
    for turn in range(-warm_up, turns):
        for name, call in contestants.items():
            finish(device)
            started = time.perf_counter()
            call()
            finish(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
            done += 1
            if progress is not None:
                progress(done, total)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}
