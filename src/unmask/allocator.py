"""Reuse of freed memory between training steps.

A training step on a CPU allocates and frees gigabytes in large blocks. glibc returns such blocks to the system at once,
and the system provides zeroed pages again, with one page fault for every 4 KiB: half a million faults a step for a
small network. With :func:`tune_malloc`, freed blocks stay in the process and are used again. The peak of a step does
not change, and the process keeps its peak size until it ends.

Allocations of varying shapes (decoding, packed documents) fragment the heap, with either setting, and a long process
grows severalfold. Repeated work therefore checks the process size from time to time and trims the heap after growth by
half. One further trim follows the first piece of work, after which long-lived memory (an optimiser's state) lies among
freed blocks.

oneDNN generates code for every number of rows of a product and keeps the last thousand programs, as PyTorch's own cache
before it does: up to 450 MB. :func:`limit_product_caches` sets a smaller number.
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
    """Configure glibc to keep freed memory for the next allocations of this process.

    The setting is process-wide, so only programs call this (the command line, benchmarks), never a library. It does not
    override ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_`` or ``GLIBC_TUNABLES`` in the environment.

    Returns:
        Whether the setting was made: False without glibc and where the environment has one of these variables.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, musl, Windows
        return False
    # Older versions of glibc allow 32 MiB at most.
    accepted = any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in (2**30, 2**25))
    return bool(accepted and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


_PRODUCT_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def limit_product_caches(entries: int = 256) -> None:
    """Limit the programs for products that oneDNN and PyTorch keep, by their environment variables.

    A program has 100 to 200 KB, and there is one for each number of rows, of inputs and of outputs. A training step uses
    fewer than a hundred. The setting is process-wide and takes effect before the first product, so only programs call
    this. It does not override variables in the environment.

    Args:
        entries: programs of each cache.
    """
    for name in _PRODUCT_CACHES:
        os.environ.setdefault(name, str(entries))


@dataclass
class MemoryTrimmer:
    """Trim the heap after the first piece of work, and whenever the process has grown.

    Attributes:
        growth: factor of the reference size at which memory is trimmed.
        min_bytes: process size below which nothing is trimmed.
        level: reference size: that after the first work since the last trim; None = not measured yet.
        begun: whether the trim after the first work is done.
    """

    growth: float = 1.5
    min_bytes: int = 2**29
    level: int | None = None
    begun: bool = False

    def look(self) -> bool:
        """Measure the process, and trim it if it has grown; call this between two pieces of work (it costs
        microseconds).

        Returns:
            Whether memory was returned to the system, so that the next allocations cause page faults.
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


watch: MemoryTrimmer = MemoryTrimmer()  # one per process


def resident_bytes() -> int:
    """Return the resident size of this process; 0 without ``/proc``."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def malloc_trim() -> bool:
    """Return unused memory of the C library to the system; False without glibc."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):
        return False
