"""Memory that a step freed and the next step needs again.

A training step on a CPU allocates and frees gigabytes in large blocks. The C library of Linux gives such blocks back to the system at
once, and the system returns them zeroed, one page fault for every 4 KiB: half a million faults a step for a small network. Told to keep
what was freed, it hands the same pages out again. The peak of a step does not change; the process keeps its peak until it ends.
"""

from __future__ import annotations

import ctypes
import os

# glibc's <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
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
