"""Training steps on an accelerator: the ``base`` preset at sequence 1,024 in bf16, and the fraction of the product
rate.

    benchmarks/gpu.sh                       runs this and keeps the figures under benchmarks/results/

12 layers, width 768, vocabulary 32,000. MLM at 15% and masked diffusion on full rows, and MLM on packed documents under
FlexAttention; eager and compiled, beside transformers' BERT. The fraction is model FLOPs, forward and backward,
relative to the rate of the step's own matrix products.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from unmask.measure.flops import Size
from unmask.measure.machine import MatrixProducts, SquareProduct
from unmask.measure.report_table import Row
from unmask.measure.step import hugging_face_bert, ours
from unmask.measure.turns import take_turns
from unmask.measure.work import Work, diffusion_rows, document_lengths, masked_rows, packed, padded

RESULTS = Path(__file__).parent / "results"
TARGET = 0.5


def works(rows: int, length: int, vocabulary: int) -> dict[str, Work]:
    """The three batches; documents fill about as many rows as the others have."""
    lengths = document_lengths(2 * rows, mean=0.45 * length, longest=length)
    return {
        "MLM step at 15%": masked_rows(rows, length, vocabulary),
        "masked-diffusion step": diffusion_rows(rows, length, vocabulary),
        "MLM step, packed documents": packed(padded(lengths, length, vocabulary), length),
    }


def measure(
    size: Size,
    rows: int,
    length: int,
    turns: int,
    device: str,
    precision: str = "bf16",
    compiled: bool = True,
    progress: Any = None,
) -> tuple[list[Row], dict[str, Any]]:
    """Rows and report of every work."""
    table: list[Row] = []
    report: dict[str, Any] = {
        "size": size.as_dict(),
        "rows": rows,
        "length": length,
        "precision": precision,
        "works": {},
    }
    for name, work in works(rows, length, size.vocabulary).items():
        weighting: Any = "inverse_p" if "diffusion" in name else "flat"
        on_flex = "segment_ids" in work.batch and device == "cuda"  # a CPU trains on documents one by one instead
        options: dict[str, Any] = {"weighting": weighting, "device": device, "flex": on_flex}
        products = MatrixProducts(size, work.tokens, work.scored, precision, device)
        square = SquareProduct(8192 if device == "cuda" else 64, precision, device)
        contestants: dict[str, Callable[[], object]] = {"unmask": ours(size, work, precision, **options)}
        if compiled:
            contestants["unmask, compiled"] = ours(size, work, precision, compiled=True, **options)
        if "segment_ids" not in work.batch:
            contestants["Hugging Face BERT"] = hugging_face_bert(size, work, precision, device=device)
        contestants |= {"matrix products alone": products, "square products": square}
        timings = take_turns(contestants, turns, warm_up=3, device=device, progress=progress)
        mine = min((t for n, t in timings.items() if n.startswith("unmask")), key=lambda t: t.median)
        flops = size.step_flops(work.lengths, work.scored)
        share = mine.faster_than(timings["matrix products alone"], flops / products.flops)
        table.append(Row.of(name, "matrix products alone", share, TARGET, unit="%"))
        if "Hugging Face BERT" in timings:
            table.append(Row.of(name, "Hugging Face BERT", mine.faster_than(timings["Hugging Face BERT"])))
        report["works"][name] = {
            "seconds": {n: {"median": t.median, "turns": t.seconds} for n, t in timings.items()},
            "step_flops": flops, "tokens": work.tokens, "scored": work.scored,
            "tokens_per_second": work.tokens / mine.median,
            "tflops": flops / mine.median / 1e12,
            "product_tflops": products.flops / timings["matrix products alone"].median / 1e12,
            "square_tflops": square.flops / timings["square products"].median / 1e12,
        }  # fmt: skip
        del contestants, products, square
        if device == "cuda":
            report["works"][name]["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.empty_cache()
    return table, report


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="leave the compiled form out")
    options = harness.parse(parser)
    if not torch.cuda.is_available():
        parser.error("no CUDA device is here; `make bench` measures on the CPU")
    torch.set_float32_matmul_precision("high")
    rows, report = measure(
        Size.of_preset("base"), options.rows, options.length, options.turns, "cuda", compiled=not options.eager
    )
    harness.show_rows(torch.cuda.get_device_name(), rows)
    name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    path = options.json or RESULTS / f"{name}.json"
    harness.write(path, "gpu", {**report, "table": [row.as_dict() for row in rows]})
    print(f"figures in {path}")


if __name__ == "__main__":
    main()
