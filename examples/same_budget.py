"""Masked diffusion, BERT, block diffusion and an autoregressive model of one size and budget, in bits per character.

    python examples/same_budget.py --data shakespeare.txt --unit paragraph --steps 2000 --width 128 --layers 4

Without arguments the text is a small grammar, and the models are tiny. The figure of an autoregressive model is its likelihood; the others are upper
bounds. BERT masks 15% of the tokens, so its bound is loose.
"""

import argparse
import random
import tempfile
from pathlib import Path

import unmask

OBJECTIVES = {
    "masked diffusion": ["objective.name=diffusion"],
    "BERT": ["objective.name=bert"],
    "block diffusion, 16": ["objective.name=block_diffusion", "objective.block_size=16"],
    "block diffusion, 4": ["objective.name=block_diffusion", "objective.block_size=4"],
    "autoregressive": ["objective.name=autoregressive"],
}


def grammar(path: Path) -> Path:
    """Write a text of short sentences."""
    draw = random.Random(0)
    words = (["the cat", "a dog", "my aunt"], ["sees", "finds", "likes"], ["the moon", "a stone", "old trees"])
    path.write_text("\n".join(" ".join(draw.choice(part) for part in words) + "." for _ in range(400)))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a text file; default: a small grammar")
    parser.add_argument("--unit", default="line", help="extent of a document: line, paragraph, section or file")
    parser.add_argument("--runs", type=Path, help="folder of the runs; default: a temporary one")
    parser.add_argument("--steps", type=int, default=12, help="optimiser steps of each model")
    parser.add_argument("--rows", type=int, default=8, help="rows of a step")
    parser.add_argument("--length", type=int, default=32, help="characters of a row")
    parser.add_argument("--width", type=int, default=32, help="width of the networks")
    parser.add_argument("--layers", type=int, default=2, help="layers of the networks")
    parser.add_argument("--documents", type=int, help="held-out documents to evaluate; default: all")
    options = parser.parse_args()
    runs = options.runs or Path(tempfile.mkdtemp(prefix="same-budget-"))
    runs.mkdir(parents=True, exist_ok=True)
    shared = [
        f"data.source={options.data or grammar(runs / 'grammar.txt')}", f"data.unit={options.unit}", "data.tokenizer=characters", f"data.block_size={options.length}",
        "model.preset=null", f"model.d_model={options.width}", f"model.num_layers={options.layers}", f"model.nhead={max(1, options.width // 32)}",
        f"model.max_length={options.length}", f"train.steps={options.steps}", f"train.batch_size={options.rows}", "optim.lr=2e-3",
        f"train.evaluate_every={max(1, options.steps // 5)}",
    ]  # fmt: skip
    lines = []
    for name, objective in OBJECTIVES.items():
        run = runs / name.replace(",", "").replace(" ", "-")
        unmask.train(None, [f"run={run}", *shared, *objective])
        report = unmask.load(run).evaluate(baselines=False, documents=options.documents)
        bits = report["models"]["trained"]["bits_per_token"]
        sign = " " if name == "autoregressive" else "≤"
        lines.append(f"{name:22} {sign} {bits['value']:.3f}  ({bits['low']:.3f} to {bits['high']:.3f})")
    print("\nbits per character, 95% intervals over documents")
    print("\n".join(lines))
