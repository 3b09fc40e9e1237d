"""A training step of the instruction-trace model, beside an encoder whose attention heads are modules of their own.

    python benchmarks/traces.py [--json traces.json] [--size tiny] [--rounds 5] [--threads 2] [--precision fp32]

The peer is the textbook form of the same network: one module a head with three projections, scores, softmax and a product, a mask added to
the scores, learned embeddings of instruction and argument numbers, and the vocabulary projection at every position of rows of one
fixed length. Both have the same width, depth, heads, feed-forward width, vocabulary, 80/10/10 masking and fused AdamW. Two
settings:

    dense    rows that are full: what the two encoders cost
    real     functions of real lengths: the peer pads each to a row, ours packs them

The lengths are drawn from the quantiles of 22,580 functions of fourteen Linux binaries (tokens of a trace: median 211, mean 349).
Figures are functions or rows a second, from medians of rounds in which both take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.allocator import keep_freed_memory
from unmask.contracts import SpecialIds
from unmask.data.collators import MaskedLMCollator, PackedMLMCollator
from unmask.data.packing import Packer
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.instruction_trace import InstructionTraceTransformerEncoderForMaskedLMConfiguration as Sizes
from unmask.ops.corruption import bert_corruption
from unmask.ops.instructions import instruction_positions
from unmask.train.loss import MLMLoss

VOCAB = 4096
PAD, UNK, SEP, CLS, MASK, NEXT = range(6)
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=CLS, eos=SEP, others=(UNK, NEXT))
LENGTH_QUANTILES = ((0.0, 8), (0.05, 44), (0.25, 103), (0.5, 211), (0.75, 432), (0.9, 834), (0.95, 1206), (0.99, 1880), (1.0, 3155))
ROWS = 8


class Head(nn.Module):
    """One attention head as a module."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, size) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(-1, -2) / self.q.out_features**0.5 + bias
        return scores.softmax(-1) @ self.v(x)


class Layer(nn.Module):
    """A pre-norm layer over a list of heads."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, width // heads) for _ in range(heads))
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feedforward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        y = self.norms[0](x)
        x = x + self.out(torch.cat([head(y, bias) for head in self.heads], -1))
        return x + self.feedforward(self.norms[1](x))


class PerHeadEncoder(nn.Module):
    """The peer: ``[B, L]`` ids and mask to ``[B, L, V]`` logits."""

    def __init__(self, depth: int, width: int, heads: int, inner: int, length: int) -> None:
        super().__init__()
        self.token, self.instruction, self.argument = nn.Embedding(VOCAB, width), nn.Embedding(length, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(Layer(width, heads, inner) for _ in range(depth))
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, VOCAB))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        instruction, argument = instruction_positions(ids, NEXT)
        x = self.token(ids) + self.instruction(instruction) + self.argument(argument)
        bias = torch.where(mask.bool(), 0.0, -1e9)[:, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(x)


def functions(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Traces of real lengths: random words, and a ``[NEXT]`` after every five."""
    shares, lengths = zip(*LENGTH_QUANTILES, strict=True)
    drawn = np.interp(rng.random(count), shares, lengths).astype(int)
    return [trace(n, rng) for n in drawn]


def trace(length: int, rng: np.random.Generator) -> np.ndarray:
    """Random words in instructions of four, with its end."""
    ids = rng.integers(6, VOCAB, length)
    ids[4::5] = NEXT
    ids[-1] = SEP
    return ids


def step_of(model: nn.Module, loss: Callable[[], Tensor], bf16: bool) -> Callable[[], None]:
    """One training step: forward, backward, clip, update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def contestants(size: str, bf16: bool) -> dict[str, tuple[int, Callable[[], None], Callable[[], None]]]:
    """For each setting: its number of functions, the peer's step on them, and ours."""
    sizes: dict[str, Any] = Sizes.options[size]
    depth, width, heads, inner = (sizes[n] for n in ("depth", "hidden_dimensions", "heads", "intermediate_dimensions"))
    length = sizes["sequence_length"]
    peer = PerHeadEncoder(depth, width, heads, inner, length)
    ours = InstructionTraceMLMModel(
        VOCAB, width, depth, heads, NEXT, padding_idx=PAD, mask_idx=MASK, dim_feedforward=inner, dropout=0.0, activation="gelu", max_length=length
    )
    rng = np.random.default_rng(0)
    loss = MLMLoss(tokenizer=SPECIAL)
    collate = MaskedLMCollator(MASK, VOCAB, tokenizer=SPECIAL)
    packed = PackedMLMCollator(SPECIAL, length, bert_corruption(MASK, VOCAB, SPECIAL.all))

    def peer_loss(rows: list[np.ndarray]) -> Callable[[], Tensor]:
        batch = collate([{"tokens": np.pad(r, (0, length - len(r))), "mask": (np.arange(length) < len(r)).astype(int)} for r in rows])
        return lambda: F.cross_entropy(peer(batch["tokens"], batch["mask"]).view(-1, VOCAB).float(), batch["labels"].view(-1))

    def our_loss(rows: list[np.ndarray]) -> Callable[[], Tensor]:
        batch = packed(list(Packer(length, PAD).pack(rows)))
        return lambda: loss(batch, ours)["loss"]

    found = {}
    for name, rows in (
        ("dense", [trace(length, rng) for _ in range(ROWS)]),
        ("real", [f[:length] for f in functions(2 * ROWS, rng)]),
    ):
        found[name] = (len(rows), step_of(peer, peer_loss(rows), bf16), step_of(ours, our_loss(rows), bf16))
    return found


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description="A training step of the trace model beside an encoder of per-head modules.")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--size", choices=list(Sizes.options), default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as the command line does; it helps both
    figures = []
    print(f"{options.size}, {options.precision}, {options.threads} threads\n{'':<8}{'peer, s a step':>18}{'ours, s a step':>18}{'times faster':>14}")
    for name, (count, theirs, mine) in contestants(options.size, options.precision == "bf16").items():
        times: dict[str, list[float]] = {"peer": [], "ours": []}
        for turn in range(options.rounds + 1):
            for who, step in (("peer", theirs), ("ours", mine)):
                start = time.perf_counter()
                step()
                if turn:  # the first is to warm up
                    times[who].append(time.perf_counter() - start)
        medians = {who: statistics.median(values) for who, values in times.items()}
        ratio = medians["peer"] / medians["ours"]
        print(f"{name:<8}{medians['peer']:>18.3f}{medians['ours']:>18.3f}{ratio:>14.2f}")
        figures.append({"setting": name, "functions": count, **medians, "ratio": ratio, "spread": {w: [min(v), max(v)] for w, v in times.items()}})
    if options.json is not None:
        described = {"size": options.size, "precision": options.precision, "threads": options.threads, "torch": torch.__version__}
        options.json.write_text(json.dumps({"benchmark": "traces", **described, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
