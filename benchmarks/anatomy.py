"""Time of a training step by kind of operation, from torch's profiler.

    python -m benchmarks.anatomy [--precision bf16] [--steps 2] [--json anatomy.json]

Our MLM step at 15% with the table's size, eager, on the CPU. The time of an operation excludes the operations it calls.
"""

from __future__ import annotations

import re
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks import harness
from unmask.measure.flops import Size
from unmask.measure.step import TrainingStep, ours
from unmask.measure.work import masked_rows

# The first kind whose pattern is in an operation's name.
KINDS = {
    "matrix products": r"aten::(mm|addmm|bmm|baddbmm|linear)$|mkldnn.*linear",
    "attention": r"attention|attend_",
    "optimiser": r"adam",
    "norms and activations": r"layer_norm|gelu|relu|silu",
    "cross-entropy": r"softmax|nll_loss|cross_entropy|logsumexp|argmax|aten::max|aten::exp",
    "copies and casts": r"copy|clone|contiguous|aten::(cat|fill_|zero_|index|index_put_|index_select|gather)$",
}


def anatomy(step: TrainingStep, steps: int = 2) -> dict[str, float]:
    """Share of the time per kind of operation, largest first; ``other`` is what no kind names."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            step()
    times = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in found.key_averages():
        kind = next((name for name, pattern in KINDS.items() if re.search(pattern, event.key, re.IGNORECASE)), "other")
        times[kind] += event.self_cpu_time_total
    total = sum(times.values())
    return {name: time / total for name, time in sorted(times.items(), key=lambda item: -item[1])}


def section(precision: str, steps: int = 2, size: Size = Size()) -> dict[str, Any]:
    """The shares of our step."""
    return anatomy(ours(size, masked_rows(vocabulary=size.vocabulary), precision), steps)


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--precision", choices=["fp32", "bf16"], nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--steps", type=int, default=2)
    options = harness.parse(parser)
    shares = {precision: section(precision, options.steps) for precision in options.precision}
    kinds = list(next(iter(shares.values())))
    harness.show(
        "share of a step's time",
        ["operations", *shares],
        [[kind, *(f"{of[kind]:.1%}" for of in shares.values())] for kind in kinds],
    )
    harness.write(options.json, "anatomy", {"shares": shares})


if __name__ == "__main__":
    main()
