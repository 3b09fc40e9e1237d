"""A block-diffusion step over noisy and clean rows, beside the same step under the dense mask of ``2 L x 2 L``.

    python -m benchmarks.block_diffusion [--block 16] [--turns 3] [--rows 8] [--length 512]

Both run one network and one loss; they differ in the attention alone. The dense one also computes the last layer at every
token, as a mask over rows must.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from unmask.measure.flops import Size
from unmask.measure.report_table import Row, markdown
from unmask.measure.step import ours
from unmask.measure.turns import take_turns
from unmask.measure.work import diffusion_rows
from unmask.models import rotary_mlm
from unmask.nn.attention import DensePlan
from unmask.nn.clean_prefix import clean_prefix_mask, plan_clean_prefix

OURS, DENSE, MASKED = "unmask", "the dense mask", "masked diffusion"


def dense_plan(
    positions: torch.Tensor, block: int, attention_mask: Any, segment_ids: Any, use_flex: bool, drops: bool
) -> tuple[DensePlan, None]:
    """The plan of ``unmask.nn.clean_prefix`` as one mask over rows ``[x_t | x_0]``."""
    batch, seq = positions.shape
    return DensePlan(batch, 2 * seq, clean_prefix_mask(positions // block, attention_mask, segment_ids)[:, None]), None


def section(
    turns: int, progress: Any = None, block: int = 16, rows: int = 8, length: int = 512, size: Size | None = None
) -> tuple[list[Row], dict[str, Any]]:
    """Time both, and the masked-diffusion step of the same rows."""
    size = size or Size()
    work = diffusion_rows(rows, length, size.vocabulary)
    step = ours(size, work, weighting="inverse_p", block=block)

    def under(plan: Callable[..., Any]) -> Callable[[], object]:
        def run() -> object:
            rotary_mlm.plan_clean_prefix = plan  # type: ignore[attr-defined]
            try:
                return step()
            finally:
                rotary_mlm.plan_clean_prefix = plan_clean_prefix  # type: ignore[attr-defined]

        return run

    contestants = {
        OURS: under(plan_clean_prefix),
        DENSE: under(dense_plan),
        MASKED: ours(size, work, weighting="inverse_p"),
    }
    timings = take_turns(contestants, turns, progress=progress)
    row = Row.of(
        f"block diffusion step of {length} tokens, fp32", DENSE, timings[OURS].faster_than(timings[DENSE]), 2.0
    )
    seconds = {name: {"median": timing.median, "turns": timing.seconds} for name, timing in timings.items()}
    return [row], {"seconds": seconds, "tokens": work.tokens, "scored": work.scored, "block": block}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("block", 16), ("turns", 3), ("rows", 8), ("length", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    found, report = section(options.turns, None, options.block, options.rows, options.length)
    print(markdown(found))
    for name, timing in report["seconds"].items():
        print(f"{name}: {timing['median']:.3f} s")
