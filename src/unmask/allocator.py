"""Memory that a step freed and the next step needs again.

A training step on a CPU allocates and frees gigabytes in large blocks. The C library of Linux gives such blocks back to the system at
once, and the system returns them zeroed, one page fault for every 4 KiB: half a million faults a step for a small network. Told to keep
what was freed, it hands the same pages out again. The peak of a step does not change; the process keeps its peak until it ends.

Work of ever new shapes (rows that finish, packed documents) leaves holes that nothing fits, told or not, and a long process grows
severalfold. So work that repeats looks now and then how large the process is, and has holes given back when it has grown by half; and
once after its first piece, for what stays from then on (an optimiser's state) was put among what went.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

# glibc's <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def tune_malloc() -> bool:
    """Make this process keep freed memory for its next allocations, as a process does that computes until it ends.

    It holds for the whole process, so only programs call it (the command line, benchmarks), never a library. A user's own setting
    (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_`` or ``GLIBC_TUNABLES``) stands.

    Returns:
        Whether it was done: False on systems without glibc and where the user decided.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return False
    kept = any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in (2**30, 2**25))  # older ones allow 32 MiB at most
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


@dataclass
class MemoryTrimmer:
    """Gives holes back to the system after the first work, and when the process has grown.

    Attributes:
        growth: how many times its size after the first work since holes were last given back.
        least: bytes below which nothing is worth it.
        level: that size; None = not known yet.
        begun: whether it has given back since the first work.
    """

    growth: float = 1.5
    min_bytes: int = 2**29
    level: int | None = None
    begun: bool = False

    def look(self) -> bool:
        """Look; to be called between two pieces of work, which costs microseconds.

        Returns:
            Whether memory was given back: the next piece fetches its pages anew.
        """
        size = resident_bytes()
        if size < self.min_bytes:
            return False
        if not self.begun:
            self.begun = True
            return malloc_trim()
        if self.level is None:
            self.level = size
        if size <= self.growth * self.level:
            return False
        self.level = None
        return malloc_trim()


watch = MemoryTrimmer()  # of this process


def resident_bytes() -> int:
    """The size of this process in memory; 0 where ``/proc`` does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def malloc_trim() -> bool:
    """Give unused memory of the C library back to the system; False where it cannot."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):
        return False
