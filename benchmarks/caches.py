"""Cost and effect of each cache: tokens run, tokens equal to uncached decoding, tokens restored.

Half of the tokens of held-out windows are masked and filled greedily in blocks, the most confident first. A
block-causal network also runs with its exact cache, and then decodes its attention blocks.

    python -m benchmarks.caches --model runs/demo --rows 8 --block 16 --steps 32
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from unmask.contracts import SpecialIds
from unmask.decode.forwards.cached import KINDS
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.runs import load_run
from unmask.studies.decoded_rows import half_hidden


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="run folder, with its data beside it")
    parser.add_argument("--rows", type=int, default=8, help="held-out windows")
    parser.add_argument(
        "--block", type=int, default=16, help="positions of a block; a block-causal network brings its own"
    )
    parser.add_argument("--steps", type=int, default=32, help="evaluations of a row, at most")
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    loaded = load_run(options.model)
    special, length = SpecialIds.of(loaded.tokenizer), loaded.model.causal_block or options.block
    canvas, text = half_hidden(options.model / "data", loaded.config.data.block_size, options.rows, special)
    hidden = canvas.blanks(special.mask)

    rules: dict[str, dict[str, Any]] = {"none": {}, **{name: {"cache": name} for name in KINDS}}
    rules |= {f"{name}, refreshed every 4": {"cache": name, "cache_refresh": 4} for name in KINDS}
    if loaded.model.causal_block is not None:
        rules["block"] = {"cache": "block"}
    found: dict[str, dict[str, float]] = {}
    plain = None
    for name, rule in track(rules.items(), "decoding", console=Console(stderr=True)):
        made = make_rules(
            options.steps, special=special, order="top_prob", temperature=0.0, block_length=length,
            aligned_blocks=loaded.model.causal_block is not None, **rule,
        )  # fmt: skip
        decoded = fill_canvas(loaded.model, canvas, made, special=special, seed=0)
        plain = decoded if plain is None else plain
        right = ((decoded.ids == text) & hidden).sum(-1) / hidden.sum(-1)
        found[name] = {
            "tokens_run": decoded.positions_computed,
            "as_without": float((decoded.ids == plain.ids)[hidden].double().mean()),
            "restored": float(right.mean()),
            "half_width": 1.96 * float(right.std()) / math.sqrt(len(right)),
        }
    print(f"{'cache':28}{'tokens run':>12}{'as without':>12}{'restored':>10}")
    for name, row in found.items():
        print(
            f"{name:28}{row['tokens_run']:>12,}{row['as_without']:>12.1%}{row['restored']:>10.1%} ± {100 * row['half_width']:.1f}"
        )
    if options.out is not None:
        report = {
            "model": str(options.model),
            "step": loaded.step,
            "rows": len(text),
            "block": length,
            "steps": options.steps,
            "caches": found,
        }
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
