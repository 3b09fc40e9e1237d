"""A training step and a generation beside x-transformers' NonAutoregressiveWrapper, in one run on one machine.

Three combinations of equal width, depth, heads, vocabulary and row length take turns: their network in their wrapper,
theirs in ours, and ours in ours. A step is forward, backward and AdamW; a generation fills complete rows with the same
number of forward passes. Ratios are of medians within this run.

    python benchmarks/maskgit.py --out maskgit.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from x_transformers import Encoder, TransformerWrapper
from x_transformers import NonAutoregressiveWrapper as Theirs

from unmask import NonAutoregressiveWrapper, RotaryTransformerMLMModel


def networks(vocab: int, length: int, width: int, depth: int, heads: int, steps: int) -> dict[str, torch.nn.Module]:
    """The three, wrapped with default options; the feed-forward layers are four times as wide in all."""

    def theirs() -> TransformerWrapper:
        torch.manual_seed(0)
        layers = Encoder(dim=width, depth=depth, heads=heads, attn_dim_head=width // heads, attn_flash=True)
        return TransformerWrapper(num_tokens=vocab + 1, max_seq_len=length, attn_layers=layers)

    torch.manual_seed(0)
    ours = RotaryTransformerMLMModel(
        vocab + 1,
        width,
        depth,
        heads,
        padding_idx=None,
        mask_idx=vocab,
        dropout=0.0,
        activation="gelu",
        max_length=length,
    )
    return {
        "x-transformers, their wrapper": Theirs(theirs(), mask_id=vocab, steps=steps),
        "x-transformers, our wrapper": NonAutoregressiveWrapper(theirs(), mask_id=vocab, steps=steps),
        "our network, our wrapper": NonAutoregressiveWrapper(ours, mask_id=vocab, steps=steps),
    }


def training_step(model: torch.nn.Module, batch: torch.Tensor) -> Callable[[], None]:
    """One step of AdamW on one batch."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model(batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def in_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("vocab", 8192),
        ("length", 256),
        ("width", 256),
        ("depth", 4),
        ("heads", 4),
        ("batch", 8),
        ("steps", 18),
        ("repeats", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(0)
    models = networks(asked.vocab, asked.length, asked.width, asked.depth, asked.heads, asked.steps)
    batch = torch.randint(0, asked.vocab, (asked.batch, asked.length))
    result = {
        "training step": in_turns({name: training_step(m, batch) for name, m in models.items()}, asked.repeats),
        "generate": in_turns(
            {name: lambda m=m: m.generate(batch_size=asked.batch) for name, m in models.items()},
            max(1, asked.repeats // 2),
        ),
    }
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in models.items()}
    first = next(iter(models))
    print(
        f"{asked.batch} rows of {asked.length} tokens of {asked.vocab:,}, {torch.get_num_threads()} threads, {asked.steps} evaluations a generation"
    )
    for name in models:
        line = "   ".join(
            f"{what} {1000 * t[name]:8.0f} ms, {t[first] / t[name]:4.2f} times as fast" for what, t in result.items()
        )
        print(f"{name:32}{sizes[name] / 1e6:6.1f}M   {line}")
    if asked.out:
        facts = {
            "asked": {k: v for k, v in vars(asked).items() if k != "out"},
            "parameters": sizes,
            "threads": torch.get_num_threads(),
            "machine": platform.processor(),
            "torch": torch.__version__,
        }
        asked.out.write_text(json.dumps({**facts, "median_seconds": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
