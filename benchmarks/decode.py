"""How fast decoding is, beside a plain loop over the same network, prompts and number of steps.

The plain loop is LLaDA's (Nie et al. 2025, 2502.09992, algorithm 5) as it is usually written: logits of the whole sequence at
every step, all rows to the end. Its rule, the surest first and greedily, is that of "exact, surest first", whose tokens must
be the same. Variants take turns, so that a busy machine slows them alike; ratios are of medians within this run.

    python benchmarks/decode.py --steps 32 --repeats 3 --out decode.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import unmask
from unmask.decode.named import make_rules
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

VOCAB, NEW_TOKENS, BLOCK = 32_000, 128, 32
SPECIAL = SpecialIds(mask=1, pad=0, vocab_size=VOCAB)
VARIANTS = {
    "exact, surest first": {"order": "top_prob"},
    "exact, random order": {"order": "random"},
    "blocks, exact": {"order": "top_prob", "block_length": BLOCK},
    "blocks, prefix cache": {"order": "top_prob", "block_length": BLOCK, "cache": "prefix"},
    "blocks, dual cache": {"order": "top_prob", "block_length": BLOCK, "cache": "dual"},
}


def network() -> RotaryTransformerMLMModel:
    """About 12 million parameters, most of them the vocabulary's; untrained, which costs the same."""
    torch.manual_seed(0)
    return RotaryTransformerMLMModel(
        VOCAB, 256, 5, 4, padding_idx=SPECIAL.pad or 0, mask_idx=SPECIAL.mask, dropout=0.0, tie_embeddings=True, max_length=512
    ).eval()


def canvas_of(rows: int) -> Canvas:
    """Prompts of 8 to 32 tokens, padded on the left, each with 128 blanks."""
    generator = torch.Generator().manual_seed(rows)
    prompts = torch.randint(2, VOCAB, (rows, 32), generator=generator)
    lengths = torch.randint(8, 33, (rows, 1), generator=generator)
    lengths[0] = 32
    real = torch.arange(32) >= 32 - lengths
    return Canvas.prefix(prompts.masked_fill(~real, SPECIAL.pad or 0), real, NEW_TOKENS, SPECIAL)


@torch.inference_mode()
def plain_loop(model: RotaryTransformerMLMModel, canvas: Canvas, steps: int) -> Tensor:
    """Logits everywhere, a softmax over all of them, the surest ``1 / steps`` of every row placed."""
    ids = canvas.ids.clone()
    for step in range(steps):
        logits = model(ids, canvas.attention_mask, canvas.positions)  # (B, L, V)
        logits[..., [SPECIAL.mask, SPECIAL.pad or 0]] = -torch.inf
        tokens = logits.argmax(-1)
        confidence = logits.softmax(-1).gather(-1, tokens[..., None])[..., 0]
        blank = (ids == SPECIAL.mask) & canvas.attention_mask
        confidence = confidence.masked_fill(~blank, -torch.inf)
        count = NEW_TOKENS * (step + 1) // steps - NEW_TOKENS * step // steps
        for row in range(len(ids)):
            chosen = confidence[row].topk(count).indices
            ids[row, chosen] = tokens[row, chosen]
    return ids


def measure(rows: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of each variant, how many times faster than the plain loop, and how many tokens are as in its result."""
    model, canvas = network(), canvas_of(rows)
    runs: dict[str, Callable[[], Tensor]] = {"plain loop": lambda: plain_loop(model, canvas, steps)}
    for name, options in VARIANTS.items():
        rules = make_rules(steps, special=SPECIAL, temperature=0.0, **options)  # type: ignore[arg-type]
        runs[name] = lambda rules=rules: unmask(model, canvas, rules, special=SPECIAL, seed=0).ids  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    ids: dict[str, Tensor] = {}
    plain_loop(model, canvas, 1)  # the first call of a process pays for what it allocates
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            ids[name] = run()
            seconds[name].append(time.perf_counter() - started)
    plain = statistics.median(seconds["plain loop"])
    blanks = canvas.blanks(SPECIAL.mask)
    return {
        name: {
            "seconds": statistics.median(times),
            "tokens_per_second": rows * NEW_TOKENS / statistics.median(times),
            "times_faster": plain / statistics.median(times),
            "same_tokens": float((ids[name] == ids["plain loop"])[blanks].double().mean()),
        }
        for name, times in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="rows decoded together")
    parser.add_argument("--steps", type=int, default=64, help=f"network evaluations for {NEW_TOKENS} tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("decode.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parameters = sum(p.numel() for p in network().parameters())
    report = {
        "parameters": parameters, "vocabulary": VOCAB, "new_tokens": NEW_TOKENS, "steps": options.steps, "block": BLOCK,
        "threads": options.threads, "repeats": options.repeats, "torch": torch.__version__, "machine": platform.machine(),
        "batches": {rows: measure(rows, options.steps, options.repeats) for rows in options.batch},
    }  # fmt: skip
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{parameters / 1e6:.1f}M parameters, vocabulary {VOCAB:,}, {NEW_TOKENS} new tokens, {options.steps} steps, {options.threads} threads")
    for rows, variants in report["batches"].items():  # type: ignore[attr-defined]
        print(f"\n{f'batch {rows}':24}{'seconds':>9}{'tokens/s':>10}{'faster':>9}{'same tokens':>13}")
        for name, found in variants.items():
            print(
                f"{name:24}{found['seconds']:9.2f}{found['tokens_per_second']:10,.0f}{found['times_faster']:8.2f}×{found['same_tokens']:12.1%}"
            )


if __name__ == "__main__":
    main()
