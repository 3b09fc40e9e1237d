"""Start-up: the import of the library beside torch's own, and ``unmask --help``, each in fresh processes.

    python -m benchmarks.start [--times 5] [--json start.json]

Seconds are the smallest of the repeats, since anything else that runs only adds to them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from benchmarks import harness
from unmask.measure.report_table import Row

NAMES = "import unmask; unmask.MLMLoss, unmask.RotaryTransformerMLMModel, unmask.PackedMLMCollator, unmask.fill_canvas"
COMMANDS = {
    "torch": [sys.executable, "-c", "import torch"],
    "library": [sys.executable, "-c", NAMES],
    "help": [sys.executable, "-m", "unmask", "--help"],
}


def measure(times: int) -> dict[str, float]:
    """The smallest wall time of each command, of repeats in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(times):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - started)
    return {name: min(each) for name, each in seconds.items()}


def section(times: int = 5) -> tuple[list[Row], dict[str, Any]]:
    """The rows of start-up."""
    found = measure(times)
    rows = [
        Row.single("import of loss, network, collator and decoder", "", found["library"], 0.9, unit="s", at_most=True),
        Row.single("the same", "the import of torch", found["library"] / found["torch"], 1.2, at_most=True),
        Row.single("unmask --help", "", found["help"], 0.5, unit="s", at_most=True),
    ]
    return rows, {"seconds": found}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--times", type=int, default=5)
    options = harness.parse(parser)
    rows, found = section(options.times)
    harness.show_rows("start-up", rows)
    harness.write(options.json, "start", {"rows": [row.as_dict() for row in rows], **found})


if __name__ == "__main__":
    main()
