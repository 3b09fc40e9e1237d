"""All benchmarks in one run: `make bench`.

    python -m benchmarks.run [--only mlm decode …] [--turns 3] [--eager] [--readme README.md] [--page docs/performance.md]

Measures every section, prints its table, and writes all results so far to benchmarks/results/ after each section. A
complete run then prints all figures beside their targets, draws docs/scaling.png, and updates two tables: the
headlines in the README, every figure in docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    block_diffusion,
    collate,
    corruption,
    decode,
    decode_parts,
    growth,
    harness,
    loader,
    scaling,
    score,
    start,
    train_step,
)
from benchmarks.readme import headlines, refresh
from unmask.cli.screen import counting
from unmask.measure.machine import describe_machine
from unmask.measure.report_table import Row, markdown

Section = tuple[list[Row], dict[str, Any]]


def sections(options: argparse.Namespace) -> dict[str, Callable[[Any], Section]]:
    """Name -> what measures it, given a progress callback."""
    turns, compiled = options.turns, not options.eager
    found: dict[str, Callable[[Any], Section]] = {
        "mlm": lambda progress: train_step.mlm(turns, "fp32", compiled, progress),
        "whole": lambda progress: train_step.whole(turns, progress),
        "mlm-bf16": lambda progress: train_step.mlm(2 * turns, "bf16", compiled, progress),
        "diffusion": lambda progress: train_step.diffusion(turns, progress),
        "blocks": lambda progress: block_diffusion.section(turns, progress),
        "documents": lambda progress: train_step.documents(turns, "fp32", progress),
        "documents-bf16": lambda progress: train_step.documents(turns, "bf16", progress),
        "memory": lambda progress: train_step.memory(),
        "decode": lambda progress: decoding(),
        "decode-parts": lambda progress: decode_parts.section(),
        "score": lambda progress: score.section(turns),
        "corruption": lambda progress: corruption.section(),
        "collate": lambda progress: collate.section(),
        "start": lambda progress: start.section(),
        "loader": lambda progress: loader.section(20, options.step_seconds),
        "scaling": lambda progress: scaling.section(turns, options.plot, progress),
        "growth": lambda progress: growth.section(2 * turns, options.plot and options.plot.with_name("growth.png")),
    }
    if not describe_machine()["bf16_products"]:
        print("This processor does not multiply bf16 natively, so those sections are left out.")
        found = {name: measure for name, measure in found.items() if not name.endswith("bf16")}
    return found


def decoding() -> Section:
    """128 new tokens after a prompt of 64, beside plain loops; see ``benchmarks.decode``."""
    found = harness.in_fresh_process(decode.measure, 1, 64, 5)
    exact, cached = found["exact, surest first"], found["blocks, dual cache"]
    loop = found["full-logits loop, our network"][
        "seconds"
    ]  # which has our faster products too: only the decoding differs
    rows = [
        Row.single("generation of 128 tokens, exact", "a full-logits loop", exact["beside_full_logits"], 1.9),
        Row.single("generation of 128 tokens, exact", "that loop over our network", loop / exact["seconds"], 1.9),
        Row.single("generation, cached blocks", "a full-logits loop", cached["beside_full_logits"], 4.5),
        Row.single("generation, cached blocks", "that loop over our network", loop / cached["seconds"], 4.5),
        Row.single("generation, cached blocks", "a dual-cache loop", cached["beside_dual_cache"], 1.3),
    ]
    return rows, found


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SECTION",
        help="some of: mlm, whole, mlm-bf16, diffusion, blocks, documents, documents-bf16, memory, decode, decode-parts, score, corruption, collate, start, loader, scaling, growth",
    )
    parser.add_argument(
        "--turns", type=int, default=3, help="how often each contestant is timed (bf16: twice as often)"
    )
    parser.add_argument("--eager", action="store_true", help="leave the compiled forms out")
    parser.add_argument(
        "--readme", type=Path, help="put the headline figures into this file, between its markers (whole runs only)"
    )
    parser.add_argument("--page", type=Path, help="put all figures into this file likewise")
    parser.add_argument("--plot", type=Path, help="draw the growth of cost here")
    options = harness.parse(parser)
    options.step_seconds = None
    began = time.monotonic()
    measured = sections(options)
    unknown = set(options.only or ()) - set(measured)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(measured)}")
    machine = describe_machine()
    path = options.json or harness.results_file(machine)
    rows: list[Row] = []
    report: dict[str, Any] = {"turns": options.turns, "size": train_step.SIZE.as_dict(), "sections": {}}
    print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}")
    for name, measure in measured.items():
        if options.only and name not in options.only:
            continue
        with counting(name) as progress:
            found, report["sections"][name] = measure(progress)
        if name == "mlm":
            options.step_seconds = min(
                v["median"] for k, v in report["sections"][name]["seconds"].items() if k.startswith(train_step.OURS)
            )
        rows += found
        report |= {"rows": [row.as_dict() for row in rows], "minutes": round((time.monotonic() - began) / 60, 2)}
        harness.show_rows(name, found)
        harness.write(path, "all", report)
        gc.collect()
        torch._dynamo.reset()
    harness.show_rows(f"all figures, in {report['minutes']:.1f} minutes", rows)
    print(
        f"{sum(row.met is True for row in rows)} targets met, {sum(row.met is False for row in rows)} missed; figures in {path}"
    )
    if options.only:
        return
    compared = [row for row in rows if row.target is not None and not row.work.startswith("cost grows")]
    for page, shown in ((options.readme, headlines(compared)), (options.page, compared)):
        if page is not None:
            refresh(page, markdown(shown))


if __name__ == "__main__":
    main()
