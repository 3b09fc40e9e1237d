"""Peak memory of a complete process.

Allocators keep freed memory, so a peak belongs to a process and not to a call: each contestant runs in a fresh one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MARK = "peak-resident-bytes"


def peak_of_this_process() -> int:
    """Return the peak resident memory of this process, in bytes.

    Raises:
        OSError: the system does not report it (Windows).
    """
    status = Path("/proc/self/status")
    if status.is_file():  # unlike getrusage, this does not include the process that started this program
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        raise OSError(
            "This system does not report the peak memory of a process. Measure it on Linux or macOS."
        ) from None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory(statement: str) -> int:
    """Return the peak resident bytes of a fresh Python process, including imports, that runs ``statement``.

    Raises:
        RuntimeError: the process failed; the message has its last line of output.
    """
    program = (
        f"{statement}\nfrom unmask.measure.memory import peak_of_this_process\nprint('{_MARK}', peak_of_this_process())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"The measured process failed: {last}")
    return int(done.stdout.rsplit(_MARK, 1)[1])
