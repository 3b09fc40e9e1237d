"""Peak memory: of a whole process that does one thing.

Allocators keep what they once had, so a peak belongs to a process and not to a call: each contestant is measured in a fresh one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MARK = "peak-resident-bytes"


def peak_of_this_process() -> int:
    """The most memory this process ever had resident, in bytes.

    Raises:
        OSError: the system does not say (Windows).
    """
    status = Path("/proc/self/status")
    if status.is_file():  # unlike getrusage it starts anew with the program, not with the process that started it
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        raise OSError(
            "This system does not tell the peak memory of a process; it is measured on Linux and macOS."
        ) from None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory(statement: str) -> int:
    """Peak resident bytes of a fresh Python process, imports and all, that runs ``statement``.

    Raises:
        RuntimeError: the process failed; its last line says why.
    """
    program = (
        f"{statement}\nfrom unmask.measure.memory import peak_of_this_process\nprint('{_MARK}', peak_of_this_process())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"The process whose memory was to be measured failed: {last}")
    return int(done.stdout.rsplit(_MARK, 1)[1])
