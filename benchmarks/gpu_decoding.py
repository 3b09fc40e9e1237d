"""The section of ``benchmarks.gpu`` about decoding: tokens/s at several batch sizes, in bf16, greedy, the most confident first.

exact, compiled      every step runs the whole rows; eager, or through ``torch.compile`` with CUDA graphs
dual cache           block by block, against keys and values of the rest (approximate)
causal               a block-causal network, block by block: exact without a cache and with its exact one
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from benchmarks.gpu_setting import Notes, Setting
from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.measure.report_table import Row
from unmask.measure.turns import finish
from unmask.measure.work import FIRST_ORDINARY, MASK, PAD
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

PROMPT, REPEATS = 64, 3


def network(setting: Setting, causal_block: int | None) -> RotaryTransformerMLMModel:
    """An untrained network; its cost is that of a trained one."""
    torch.manual_seed(0)
    size = setting.size
    return (
        RotaryTransformerMLMModel(
            size.vocabulary, size.width, size.layers, size.heads, padding_idx=PAD, mask_idx=MASK, dropout=0.0,
            activation="gelu", tie_embeddings=True, max_length=PROMPT + setting.new_tokens, causal_block=causal_block,
        )
        .to(setting.device, torch.bfloat16)
        .eval()
    )  # fmt: skip


def decoding(setting: Setting, notes: Notes) -> None:
    """Median tokens/s of every variant at every batch size, the goal's pair first."""
    special, block = SpecialIds(mask=MASK, pad=PAD, vocab_size=setting.size.vocabulary), max(1, setting.new_tokens // 4)
    plain, causal = network(setting, None), network(setting, block)
    in_blocks: dict[str, Any] = {"block_length": block}
    variants: dict[str, tuple[RotaryTransformerMLMModel, dict[str, Any]]] = {
        "exact": (plain, {}),
        "exact, compiled": (plain, {"compiled": True}),
        "dual cache": (plain, {**in_blocks, "cache": "dual"}),
        "causal, no cache": (causal, {**in_blocks, "aligned_blocks": True}),
        "causal, block cache": (causal, {**in_blocks, "aligned_blocks": True, "cache": "block"}),
    }
    if not setting.compiled:
        del variants["exact, compiled"]
    figures: dict[str, dict[str, Any]] = {}
    notes.report["figures"] = figures
    for rows in setting.batches:
        prompts = torch.randint(FIRST_ORDINARY, setting.size.vocabulary, (rows, PROMPT), device=setting.device)
        canvas = Canvas.prefix(prompts, None, setting.new_tokens, special)
        found = figures.setdefault(f"batch {rows}", {})
        tokens = None
        for name, (model, options) in variants.items():
            rules = make_rules(setting.steps, special=special, order="top_prob", temperature=0.0, **options)
            try:
                seconds, first, ids = measured(model, canvas, rules, special, setting)
            except Exception as error:
                notes.failed(f"batch {rows}, {name}", error)
                continue
            tokens = ids if name == "exact" else tokens
            same = float((ids == tokens).double().mean()) if tokens is not None and model is plain else None
            speed = rows * setting.new_tokens / seconds
            found[name] = {"tokens_per_second": speed, "seconds": seconds, "first_call": first, "same_tokens": same}
            notes.save()
            print(f"    batch {rows}, {name}: {speed:,.0f} tokens/s (first call {first:.1f} s)", flush=True)
        if "exact, compiled" in found and "exact" in found:
            ratio = found["exact"]["seconds"] / found["exact, compiled"]["seconds"]
            notes.row(Row.single(f"decoding, batch {rows}: compiled", "eager", ratio, 3.0 if rows == 1 else None))
        for name, figure in found.items():
            notes.row(Row.single(f"decoding, batch {rows}: {name}", "", figure["tokens_per_second"], unit="tokens/s"))


def measured(model: Any, canvas: Canvas, rules: Any, special: SpecialIds, setting: Setting) -> tuple[float, float, Any]:
    """Median seconds of a decode, seconds of the first two, and the ids."""

    def once() -> tuple[float, torch.Tensor]:
        finish(setting.device)
        started = time.perf_counter()
        ids = fill_canvas(model, canvas, rules, special=special, seed=0).ids
        finish(setting.device)
        return time.perf_counter() - started, ids

    first = once()[0] + (once()[0] if setting.compiled else 0.0)  # CUDA graphs are recorded at the second call
    runs = [once() for _ in range(REPEATS if setting.turns > 1 else 1)]
    return statistics.median(seconds for seconds, _ in runs), first, runs[0][1]
