"""Decoding speed beside plain loops over the same weights, prompts and number of steps.

The full-logits loop is LLaDA's (Nie et al. 2025, 2502.09992, algorithm 5) as usually written: logits of the whole
sequence at every step, all rows to the end. It unmasks the most confident tokens greedily, as "exact, surest first"
does; their tokens must be equal. The dual-cache loop is Fast-dLLM's (Wu et al. 2025, 2505.22618, algorithm 1): the
whole sequence when a block opens, then only the block against cached keys and values of the rest, with logits at all
its positions. Both run a plain PyTorch encoder (dense rows under a mask, PyTorch's own linear layers). A third line is
the full-logits loop over our network. Variants take turns, so that a busy machine slows them alike; ratios are of
medians within this run.

    python -m benchmarks.decode --steps 64 --repeats 3 --json decode.json
    python -m benchmarks.decode --device cuda --compile              on an accelerator, with compiled steps
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import harness
from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.measure.turns import finish
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.encoder import EncoderBlock
from unmask.nn.rotary import rotate

VOCAB, PROMPT, NEW_TOKENS, BLOCK = 32_000, 64, 128, 32
SPECIAL = SpecialIds(mask=1, pad=0, vocab_size=VOCAB)
FULL, DUAL = "full-logits loop", "dual-cache loop"
VARIANTS = {
    "exact, surest first": {"order": "top_prob"},
    "exact, random order": {"order": "random"},
    "blocks, exact": {"order": "top_prob", "block_length": BLOCK},
    "blocks, prefix cache": {"order": "top_prob", "block_length": BLOCK, "cache": "prefix"},
    "blocks, dual cache": {"order": "top_prob", "block_length": BLOCK, "cache": "dual"},
}
COMPILED = {
    f"{name}, compiled": {**VARIANTS[name], "compiled": True} for name in ("exact, surest first", "exact, random order")
}


def network() -> RotaryTransformerMLMModel:
    """About 12 million parameters, most of them the vocabulary's; untrained, which costs the same."""
    torch.manual_seed(0)
    return RotaryTransformerMLMModel(
        VOCAB,
        256,
        5,
        4,
        padding_idx=SPECIAL.pad or 0,
        mask_idx=SPECIAL.mask,
        dropout=0.0,
        tie_embeddings=True,
        max_length=512,
    ).eval()


def canvas_of(rows: int, device: str = "cpu") -> Canvas:
    """A prompt of 64 tokens, or several of 16 to 64 padded on the left, each with 128 blanks."""
    generator = torch.Generator().manual_seed(rows)
    prompts = torch.randint(2, VOCAB, (rows, PROMPT), generator=generator)
    lengths = torch.randint(PROMPT // 4, PROMPT + 1, (rows, 1), generator=generator)
    lengths[0] = PROMPT
    real = torch.arange(PROMPT) >= PROMPT - lengths
    return Canvas.prefix(prompts.masked_fill(~real, SPECIAL.pad or 0).to(device), real.to(device), NEW_TOKENS, SPECIAL)


def ours(model: RotaryTransformerMLMModel, canvas: Canvas) -> Callable[[Tensor], Tensor]:
    """Logits ``[B, L, V]`` of ids ``[B, L]`` by our network."""
    return lambda ids: model(ids, canvas.attention_mask, canvas.positions)


class PlainEncoder:
    """The same weights in plain PyTorch: ids ``[B, L]`` -> logits ``[B, L, V]``, dense rows under a mask.

    A call about some columns only runs those, against the keys and values that earlier calls left of the others.
    """

    def __init__(self, model: RotaryTransformerMLMModel, canvas: Canvas) -> None:
        self.model, self.positions = model, canvas.positions
        self.mask = None if bool(canvas.attention_mask.all()) else canvas.attention_mask[:, None, None, :]
        self.cache: dict[EncoderBlock, tuple[Tensor, Tensor]] = {}

    def __call__(self, ids: Tensor, columns: slice = slice(None)) -> Tensor:
        ids = ids[:, columns]
        angles = self.model.rotary(self.positions[:, columns].flatten())
        x = self.model.embedding(ids)
        for block in self.model.blocks:
            assert isinstance(block, EncoderBlock)
            qkv = linear(block.qkv, block.attention_norm(x)).view(x.shape[0] * x.shape[1], 3, block.nhead, -1)
            q, k = rotate(qkv[:, 0], angles), rotate(qkv[:, 1], angles)
            q, k, v = (y.reshape(*ids.shape, block.nhead, -1).transpose(1, 2) for y in (q, k, qkv[:, 2]))
            if columns != slice(None):
                keys, values = self.cache[block]
                keys[:, :, columns], values[:, :, columns] = k, v
                k, v = keys, values
            self.cache[block] = (k, v)
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
            x = x + linear(block.out, heads.transpose(1, 2).flatten(2))
            x = x + linear(block.down, block.activation(linear(block.up, block.feedforward_norm(x))))
        return linear(self.model.head.projection, self.model.head.norm(x))


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    """A layer as PyTorch computes it."""
    return F.linear(x, layer.weight, layer.bias)


def surest(logits: Tensor, ids: Tensor, open_: Tensor, count: int) -> None:
    """Place the ``count`` surest tokens of every row, greedily, among the blanks of ``open_``; ``ids`` changes."""
    logits[..., [SPECIAL.mask, SPECIAL.pad or 0]] = -torch.inf
    tokens = logits.argmax(-1)
    confidence = logits.softmax(-1).gather(-1, tokens[..., None])[..., 0]
    confidence = confidence.masked_fill(~((ids == SPECIAL.mask) & open_), -torch.inf)
    for row in range(len(ids)):
        chosen = confidence[row].topk(count).indices
        ids[row, chosen] = tokens[row, chosen]


@torch.inference_mode()
def full_logits_loop(network: Callable[[Tensor], Tensor], canvas: Canvas, steps: int) -> Tensor:
    """Logits everywhere, a softmax over all of them, the surest ``1 / steps`` of every row placed."""
    ids = canvas.ids.clone()
    for step in range(steps):
        count = NEW_TOKENS * (step + 1) // steps - NEW_TOKENS * step // steps
        surest(network(ids), ids, canvas.attention_mask, count)  # (B, L, V)
    return ids


@torch.inference_mode()
def dual_cache_loop(network: PlainEncoder, canvas: Canvas, steps: int) -> Tensor:
    """Block after block: the whole sequence once, then the block against what is remembered of the rest."""
    ids = canvas.ids.clone()
    blocks = NEW_TOKENS // BLOCK
    steps = steps // blocks
    for block in range(blocks):
        columns = slice(PROMPT + block * BLOCK, PROMPT + (block + 1) * BLOCK)
        for step in range(steps):
            logits = network(ids)[:, columns] if step == 0 else network(ids, columns)
            count = BLOCK * (step + 1) // steps - BLOCK * step // steps
            surest(logits, ids[:, columns], canvas.attention_mask[:, columns], count)
    return ids


def measure(
    rows: int, steps: int, repeats: int, device: str = "cpu", compiled: bool = False
) -> dict[str, dict[str, float]]:
    """Median seconds of each variant, how many times faster than either loop, and how many tokens are as the full-logits loop's."""
    model, canvas = network().to(device), canvas_of(rows, device)
    plain = PlainEncoder(model, canvas)
    runs: dict[str, Callable[[], Tensor]] = {
        FULL: lambda: full_logits_loop(plain, canvas, steps),
        "full-logits loop, our network": lambda: full_logits_loop(ours(model, canvas), canvas, steps),
        DUAL: lambda: dual_cache_loop(plain, canvas, steps),
    }
    for name, options in (VARIANTS | (COMPILED if compiled else {})).items():
        rules = make_rules(steps, special=SPECIAL, temperature=0.0, **options)  # type: ignore[arg-type]
        runs[name] = lambda rules=rules: fill_canvas(model, canvas, rules, special=SPECIAL, seed=0).ids  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    ids: dict[str, Tensor] = {}
    full_logits_loop(
        plain, canvas, 1
    )  # the first call of a process pays for what it allocates, and for what it compiles
    for name in COMPILED if compiled else ():
        runs[name]()
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            ids[name] = run()
            finish(device)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    blanks = canvas.blanks(SPECIAL.mask)
    return {
        name: {
            "seconds": median,
            "tokens_per_second": rows * NEW_TOKENS / median,
            "beside_full_logits": medians[FULL] / median,
            "beside_dual_cache": medians[DUAL] / median,
            "same_tokens": float((ids[name] == ids[FULL])[blanks].double().mean()),
        }
        for name, median in medians.items()
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="rows decoded together")
    parser.add_argument(
        "--steps",
        type=int,
        default=64,
        help=f"network evaluations for {NEW_TOKENS} tokens, a multiple of {NEW_TOKENS // BLOCK}",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="where to decode, such as cuda")
    parser.add_argument("--compile", action="store_true", help="through compiled steps too")
    options = harness.parse(parser)
    parameters = sum(p.numel() for p in network().parameters())
    batches = {
        rows: measure(rows, options.steps, options.repeats, options.device, options.compile) for rows in options.batch
    }
    print(
        f"{parameters / 1e6:.1f}M parameters, vocabulary {VOCAB:,}, {NEW_TOKENS} new tokens, {options.steps} steps, {options.threads} threads"
    )
    for rows, variants in batches.items():
        cells = [
            [
                name, f"{found['seconds']:.2f}", f"{found['tokens_per_second']:,.0f}", f"{found['beside_full_logits']:.2f}",
                f"{found['beside_dual_cache']:.2f}", f"{found['same_tokens']:.1%}",
            ]
            for name, found in variants.items()
        ]  # fmt: skip
        harness.show(f"batch {rows}", ["decoding", "seconds", "tokens/s", "× full", "× dual", "same tokens"], cells)
    report = {
        "parameters": parameters,
        "vocabulary": VOCAB,
        "prompt": PROMPT,
        "new_tokens": NEW_TOKENS,
        "steps": options.steps,
        "block": BLOCK,
    }
    harness.write(
        options.json, "decode", {**report, "repeats": options.repeats, "device": options.device, "batches": batches}
    )


if __name__ == "__main__":
    main()
