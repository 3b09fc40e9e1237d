"""One training step beside every peer's, on the same batch, in turns.

    python -m benchmarks.train_step [--only mlm whole diffusion documents memory] [--turns 3] [--compiled] [--json
    train_step.json]

6 layers, width 384, 6 heads, feed-forward 1536, vocabulary 32,000, 8 rows of 512 tokens unless stated otherwise; a step
is forward, backward and fused AdamW; no dropout. ``ours`` is the step of ``unmask train``. A network that compiles
appears in its faster form in this run, eager or compiled; so does ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import harness, peers
from unmask.measure.flops import Size
from unmask.measure.machine import MatrixProducts, SquareProduct
from unmask.measure.quick import step_peaks
from unmask.measure.report_table import Row
from unmask.measure.step import hugging_face_bert, ours
from unmask.measure.turns import Timing, take_turns
from unmask.measure.work import diffusion_rows, document_lengths, masked_rows, packed, padded

SIZE = Size()
OURS, OURS_COMPILED = "unmask", "unmask, compiled"
BERT, X, DENSE, SPARSE = (
    "Hugging Face BERT",
    "x-transformers (flash)",
    "dense-logits rotary encoder",
    "rotary encoder, scored logits",
)
MODERN, MODERN_COMPILED = "ModernBERT (sparse head)", "ModernBERT (sparse head), compiled"
PRODUCTS, SQUARE = "matrix products alone", "square products"
Section = tuple[list[Row], dict[str, Any]]


def best(timings: dict[str, Timing], *names: str) -> Timing:
    """The fastest of these contestants, by median."""
    return min((timings[name] for name in names if name in timings), key=lambda timing: timing.median)


def seconds(timings: dict[str, Timing]) -> dict[str, Any]:
    """For JSON."""
    return {name: {"median": timing.median, "turns": timing.seconds} for name, timing in timings.items()}


def mlm(turns: int, precision: str, compiled: bool, progress: Any = None) -> Section:
    """MLM at 15%: every peer, and the machine's own matrix products."""
    work = masked_rows(vocabulary=SIZE.vocabulary)
    products = MatrixProducts(SIZE, work.tokens, work.scored, precision)
    square = SquareProduct(2048, precision)
    contestants: dict[str, Callable[[], object]] = {OURS: ours(SIZE, work, precision)}
    contestants[MODERN] = peers.modern_bert(SIZE, work, precision)
    if compiled:
        contestants[OURS_COMPILED] = ours(SIZE, work, precision, compiled=True)
        contestants[MODERN_COMPILED] = peers.modern_bert(SIZE, work, precision, compiled=True)
    contestants |= {PRODUCTS: products, SQUARE: square}
    if precision == "fp32":
        for peer, make in ((BERT, hugging_face_bert), (X, peers.x_transformers), (DENSE, peers.plain)):
            contestants[peer] = make(SIZE, work, precision)
    timings = take_turns(contestants, turns, progress=progress)
    mine = best(timings, OURS, OURS_COMPILED)
    flops = SIZE.step_flops(work.lengths, work.scored)
    name = f"MLM step at 15%, {precision}"
    rows = []
    if precision == "fp32":
        rows += [
            Row.of(name, BERT, mine.faster_than(timings[BERT]), 1.9),
            Row.of(name, X, mine.faster_than(timings[X]), 1.7),
            Row.of(name, DENSE, mine.faster_than(timings[DENSE]), 2.1),
        ]
    modern = best(timings, MODERN, MODERN_COMPILED)
    rows.append(Row.of(name, MODERN, mine.faster_than(modern), 1.1 if precision == "fp32" else 1.15))
    share = mine.faster_than(timings[PRODUCTS], flops / products.flops)
    rows.append(
        Row.of(name, "the machine's own matrix products", share, 0.85 if precision == "fp32" else 0.7, unit="%")
    )
    rates = {n: p.flops / timings[n].median / 1e9 for n, p in ((PRODUCTS, products), (SQUARE, square))}
    needed = SIZE.needed_flops(work.lengths, work.batch["noise_mask"].sum(-1).tolist())
    report = {
        "seconds": seconds(timings), "tokens": work.tokens, "scored": work.scored, "step_flops": flops, "needed_flops": needed,
        "share": share.value, "share_of_needed": share.value * needed / flops, "product_gflops": rates,
    }  # fmt: skip
    return rows, report


def whole(turns: int, progress: Any = None) -> Section:
    """The fp32 step of MLM, each contestant in processes of its own: ours as ``unmask train`` runs it, peers as their users run them."""
    runs = {
        OURS: harness.in_fresh_process,
        BERT: harness.in_default_process,
        X: harness.in_default_process,
        DENSE: harness.in_default_process,
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(2):
        for number, (name, run) in enumerate(runs.items()):
            found[name] += run(_steps, name, turns)
            if progress is not None:
                progress(turn * len(runs) + number + 1, 2 * len(runs))
    timings = {name: Timing(tuple(times)) for name, times in found.items()}
    targets = {BERT: 1.9, X: 1.7, DENSE: 2.1}
    rows = [
        Row.of("MLM step at 15%, fp32, whole processes", peer, timings[OURS].faster_than(timings[peer]), target)
        for peer, target in targets.items()
    ]
    return rows, {"seconds": seconds(timings)}


def _steps(name: str, turns: int) -> tuple[float, ...]:
    """Seconds of each of some steps of one contestant."""
    makers = {OURS: ours, BERT: hugging_face_bert, X: peers.x_transformers, DENSE: peers.plain}
    return take_turns({name: makers[name](SIZE, masked_rows(vocabulary=SIZE.vocabulary))}, turns)[name].seconds


def diffusion(turns: int, progress: Any = None) -> Section:
    """Masked diffusion, times evenly spread: half of the tokens are scored."""
    work = diffusion_rows(vocabulary=SIZE.vocabulary)
    contestants = {
        OURS: ours(SIZE, work, weighting="inverse_p"),
        DENSE: peers.plain(SIZE, work, weighted=True),
    }
    timings = take_turns(contestants, turns, progress=progress)
    rows = [Row.of("masked-diffusion step, fp32", DENSE, timings[OURS].faster_than(timings[DENSE]), 1.35)]
    return rows, {"seconds": seconds(timings), "tokens": work.tokens, "scored": work.scored}


def documents(turns: int, precision: str, progress: Any = None) -> Section:
    """Documents of log-normal length, mean 180, at most 512: useful tokens per second."""
    separate = padded(document_lengths(16), vocabulary=SIZE.vocabulary)
    together = packed(separate)
    contestants = {
        OURS: ours(SIZE, together, precision),
        BERT: hugging_face_bert(SIZE, separate, precision),
        DENSE: peers.plain(SIZE, together, precision),
        SPARSE: peers.plain(SIZE, together, precision, sparse=True),
    }
    timings = take_turns(contestants, turns, progress=progress)
    name, mine = f"documents of mean length 180, {precision}", timings[OURS]
    rows = [
        Row.of(name, "Hugging Face BERT, padded", mine.faster_than(timings[BERT]), 4.2),
        Row.of(name, "packed rows, dense mask, dense logits", mine.faster_than(timings[DENSE]), 1.5),
        Row.of(name, "packed rows, dense mask, scored logits", mine.faster_than(timings[SPARSE]), 1.5),
    ]
    report = {
        "seconds": seconds(timings), "tokens": separate.tokens, "lengths": separate.lengths, "scored": separate.scored,
        "rows_padded": len(separate.batch["input_ids"]), "rows_packed": len(together.batch["input_ids"]),
        "useful_tokens_per_second": {n: separate.tokens / t.median for n, t in timings.items()},
    }  # fmt: skip
    return rows, report


def memory() -> Section:
    """Peak resident memory of a whole process that takes two steps of MLM at 15%."""
    mine, theirs = step_peaks(SIZE, 8, 512, "fp32")
    row = Row.single("peak memory of that step, whole process", BERT, mine / theirs, 0.5, at_most=True)
    return [row], {"peak_mib": {OURS: mine / 2**20, BERT: theirs / 2**20}}


def main() -> None:
    """Measure what is asked for, print the table, write JSON."""
    parser = harness.arguments(__doc__)
    sections: dict[str, Callable[[argparse.Namespace], Section]] = {
        "mlm": lambda o: mlm(o.turns, "fp32", o.compiled),
        "whole": lambda o: whole(o.turns),
        "mlm-bf16": lambda o: mlm(o.turns, "bf16", o.compiled),
        "diffusion": lambda o: diffusion(o.turns),
        "documents": lambda o: documents(o.turns, "fp32"),
        "documents-bf16": lambda o: documents(o.turns, "bf16"),
        "memory": lambda o: memory(),
    }
    parser.add_argument("--only", nargs="+", choices=list(sections), default=list(sections))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="also the compiled forms (a minute or two to compile)")
    options = harness.parse(parser)
    rows: list[Row] = []
    report: dict[str, Any] = {"size": SIZE.as_dict()}
    for name in options.only:
        found, report[name] = sections[name](options)
        rows += found
        harness.show_rows(name, found)
        for contestant, timing in report[name].get("seconds", {}).items():
            print(f"  {contestant:40}{timing['median'] * 1e3:9.0f} ms")
    harness.write(options.json, "train_step", {**report, "rows": [row.as_dict() for row in rows]})


if __name__ == "__main__":
    main()
