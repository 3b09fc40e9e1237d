"""A training step of the instruction-trace model, beside an encoder whose attention heads are separate modules.

    python -m benchmarks.traces [--size tiny] [--precision fp32] [--turns 5] [--json traces.json]

The peer is the textbook form of the same network: one module per head with three projections, scores, softmax and a
product, an additive mask, learned embeddings of instruction and argument indices, and the vocabulary projection at
every position of rows of one fixed length. Both have the same width, depth, heads, feed-forward width, vocabulary,
80/10/10 masking and fused AdamW. Two settings:

    dense    full rows: the cost of the two encoders
    real     functions of real lengths: padded to a row for the peer, packed for ours

The lengths are 16 evenly spaced quantiles of those of 22,580 functions of fourteen Linux binaries (tokens of a trace:
median 211, mean 349). Both are timed twice: in turns in one process that keeps freed memory, which helps both, and in
separate processes: ours with tuned malloc, as in ``unmask train``, and the peer's with the system's default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import harness
from unmask.collate.labels import MaskedLMCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.packing import Packer
from unmask.contracts import SpecialIds
from unmask.measure.report_table import Row
from unmask.measure.turns import Timing, take_turns
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.instruction_trace import InstructionTraceTransformerEncoderForMaskedLMConfiguration as Sizes
from unmask.ops.corruption import bert_corruption
from unmask.ops.instructions import instruction_positions
from unmask.training.loss import MLMLoss

VOCAB = 4096
PAD, UNK, SEP, CLS, MASK, NEXT = range(6)
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=CLS, eos=SEP, others=(UNK, NEXT))
LENGTH_QUANTILES = (
    (0.0, 8),
    (0.05, 44),
    (0.25, 103),
    (0.5, 211),
    (0.75, 432),
    (0.9, 834),
    (0.95, 1206),
    (0.99, 1880),
    (1.0, 3155),
)
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
        self.token, self.instruction, self.argument = (
            nn.Embedding(VOCAB, width),
            nn.Embedding(length, width),
            nn.Embedding(length, width),
        )
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
    """Traces of evenly spaced quantiles of real lengths: random words, and a ``[NEXT]`` after every five."""
    shares, lengths = zip(*LENGTH_QUANTILES, strict=True)
    evenly = (np.arange(count) + 0.5) / count
    return [trace(int(n), rng) for n in np.interp(evenly, shares, lengths)]


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


def contestants(size: str, bf16: bool, setting: str) -> dict[str, Callable[[], None]]:
    """The peer's step in a setting, and ours."""
    sizes: dict[str, Any] = Sizes.options[size]
    depth, width, heads, inner = (sizes[n] for n in ("depth", "hidden_dimensions", "heads", "intermediate_dimensions"))
    length = sizes["sequence_length"]
    peer = PerHeadEncoder(depth, width, heads, inner, length)
    ours = InstructionTraceMLMModel(
        VOCAB,
        width,
        depth,
        heads,
        NEXT,
        padding_idx=PAD,
        mask_idx=MASK,
        dim_feedforward=inner,
        dropout=0.0,
        activation="gelu",
        max_length=length,
    )
    rng = np.random.default_rng(0)
    loss = MLMLoss(tokenizer=SPECIAL)
    collate = MaskedLMCollator(MASK, VOCAB, tokenizer=SPECIAL)
    packed = PackedMLMCollator(SPECIAL, length, bert_corruption(MASK, VOCAB, SPECIAL.all))

    def peer_loss(rows: list[np.ndarray]) -> Callable[[], Tensor]:
        batch = collate(
            [
                {"tokens": np.pad(r, (0, length - len(r))), "mask": (np.arange(length) < len(r)).astype(int)}
                for r in rows
            ]
        )
        return lambda: F.cross_entropy(
            peer(batch["tokens"], batch["mask"]).view(-1, VOCAB).float(), batch["labels"].view(-1)
        )

    def our_loss(rows: list[np.ndarray]) -> Callable[[], Tensor]:
        batch = packed(list(Packer(length, PAD).pack(rows)))
        return lambda: loss(batch, ours)["loss"]

    rows = (
        [trace(length, rng) for _ in range(ROWS)]
        if setting == "dense"
        else [f[:length] for f in functions(2 * ROWS, rng)]
    )
    return {"peer": step_of(peer, peer_loss(rows), bf16), "ours": step_of(ours, our_loss(rows), bf16)}


def steps(who: str, turns: int, size: str, bf16: bool, setting: str) -> tuple[float, ...]:
    """Seconds of each of some steps of one contestant."""
    torch.manual_seed(0)
    return take_turns({who: contestants(size, bf16, setting)[who]}, turns)[who].seconds


def measure(turns: int, *what: Any) -> dict[str, dict[str, Timing]]:
    """Both contestants in turns in this process, and in turns in processes of their own."""
    torch.manual_seed(0)
    together = take_turns(contestants(*what), turns)
    separate: dict[str, tuple[float, ...]] = {"peer": (), "ours": ()}
    for _ in range(2):
        separate["peer"] += harness.in_default_process(steps, "peer", turns, *what)
        separate["ours"] += harness.in_fresh_process(steps, "ours", turns, *what)
    return {"in turns": together, "whole processes": {who: Timing(times) for who, times in separate.items()}}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--size", choices=list(Sizes.options), default="tiny")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = harness.parse(parser)
    rows, figures = [], []
    for setting, target in (("dense", 1.8), ("real", 3.0)):
        for way, timings in measure(options.turns, options.size, options.precision == "bf16", setting).items():
            ratio = timings["ours"].faster_than(timings["peer"])
            rows.append(Row.of(f"{setting} rows, {way}", "per-head modules", ratio, target))
            figures.append(
                rows[-1].as_dict()
                | {who: {"median": timing.median, "turns": timing.seconds} for who, timing in timings.items()}
            )
    harness.show_rows(
        f"a step of the trace model: {options.size}, {options.precision}, {options.threads} threads", rows
    )
    for row, figure in zip(rows, figures, strict=True):
        print(f"  {row.work:48}{figure['peer']['median']:8.3f} s{figure['ours']['median']:8.3f} s")
    harness.write(options.json, "traces", {"size": options.size, "precision": options.precision, "figures": figures})


if __name__ == "__main__":
    main()
