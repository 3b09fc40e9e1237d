"""Sections of ``benchmarks.gpu`` about training steps: full rows, packed documents, amino acids, attention alone.

A step is forward, backward and fused AdamW, in bf16 under autocast, the same for all contestants. MFU is the model FLOPs
of the step (``unmask.measure.flops``) over its time, relative to the dense bf16 peak of an H100 or H200, 989 TFLOP/s; the
report has it relative to a measured square product too. Compiled peers have their layers, heads and loss compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_setting import Notes, Setting, Step, prepare
from benchmarks.peers import modern_bert
from unmask.measure.flops import Size
from unmask.measure.machine import SquareProduct
from unmask.measure.report_table import Row
from unmask.measure.step import TrainingStep, hugging_face_bert, ours
from unmask.measure.turns import Timing, take_turns
from unmask.measure.work import Work, diffusion_rows, document_lengths, masked_rows, packed, padded
from unmask.nn.attention import FlexPlan, flex_block_mask
from unmask.nn.packed_attention import PackedPlan, packed_documents

PEAK = 989e12  # FLOP/s: dense bf16 products of an H100 or H200 (SXM), by NVIDIA's data sheet
PUBLISHED = {"H200": 328e3, "H100": 276e3}  # tokens/s of 24 layers of width 768 on amino acids
AMINO_ACIDS = 33
SQUARE = "square product"


def rows(setting: Setting, notes: Notes) -> None:
    """MLM and masked diffusion on full rows, beside BERT and ModernBERT of transformers."""
    size, shape = setting.size, (setting.rows, setting.length, setting.size.vocabulary)
    work, diffusion = masked_rows(*shape), diffusion_rows(*shape)
    device, compiled = setting.device, setting.compiled

    def mine(work: Work, compiled: bool, weighting: Any = "flat") -> Callable[[], TrainingStep]:
        return lambda: ours(size, work, "bf16", weighting=weighting, compiled=compiled, device=device)

    def theirs(make: Callable[..., TrainingStep], compiled: bool) -> Callable[[], TrainingStep]:
        return lambda: compiled_by_parts(make(size, work, "bf16", device=device), compiled)

    makers: dict[str, Callable[[], Step]] = {}
    if compiled:
        makers["unmask, compiled"] = mine(work, True)
        makers["unmask, diffusion, compiled"] = mine(diffusion, True, "inverse_p")
        makers["ModernBERT, compiled"] = theirs(modern_bert, True)
        makers["BERT, compiled"] = theirs(hugging_face_bert, True)
    makers["unmask"] = mine(work, False)
    makers["ModernBERT"], makers["BERT"] = theirs(modern_bert, False), theirs(hugging_face_bert, False)
    timings = timed(makers, setting, notes)
    works = {name: diffusion if "diffusion" in name else work for name in timings}
    note_rates(timings, works, size, notes)
    best = fastest(timings, "unmask", without="diffusion")
    for kind, chosen in (("MLM step", best), ("masked-diffusion step", fastest(timings, "unmask, diffusion"))):
        note_mfu(kind, chosen, timings, works, size, notes)
    peer = fastest(timings, "BERT", "ModernBERT")
    if best and peer:
        notes.row(Row.of("MLM step", peer, timings[best].faster_than(timings[peer]), 1.15))


def packed_rows(setting: Setting, notes: Notes) -> None:
    """MLM on packed documents: FlexAttention beside variable-length flash attention."""
    lengths = document_lengths(2 * setting.rows, mean=0.45 * setting.length, longest=setting.length)
    work = packed(padded(lengths, setting.length, setting.size.vocabulary), setting.length)
    makers: dict[str, Callable[[], Step]] = {}
    for compiled in (True, False) if setting.compiled else (False,):
        for flex in (False, True) if setting.device == "cuda" else (False,):
            name = f"unmask, {'flex' if flex else 'variable-length'}{', compiled' if compiled else ''}"
            makers[name] = lambda compiled=compiled, flex=flex: ours(  # type: ignore[misc]
                setting.size, work, "bf16", compiled=compiled, flex=flex, device=setting.device
            )
    timings = timed(makers, setting, notes)
    note_rates(timings, dict.fromkeys(timings, work), setting.size, notes)
    note_mfu("MLM step, packed documents", fastest(timings, "unmask"), timings, dict.fromkeys(timings, work), setting.size, notes)  # fmt: skip
    one, other = fastest(timings, "unmask, variable-length"), fastest(timings, "unmask, flex")
    if one and other:
        notes.row(Row.of("packed documents, variable-length flash", "FlexAttention", timings[one].faster_than(timings[other])))  # fmt: skip


def amino_acids(setting: Setting, notes: Notes) -> None:
    """Tokens/s of 24 layers of width 768 with a vocabulary of amino acids."""
    size = setting.size
    if setting.device == "cuda":
        size = Size(24, 768, 12, 3072, AMINO_ACIDS)
    work = masked_rows(setting.rows, setting.length, size.vocabulary)
    name = "unmask, compiled" if setting.compiled else "unmask"
    timings = timed(
        {name: lambda: ours(size, work, "bf16", compiled=setting.compiled, device=setting.device)}, setting, notes
    )
    note_rates(timings, {name: work}, size, notes)
    note_mfu("24 layers × 768 on amino acids", name, timings, {name: work}, size, notes)
    published = next((rate for chip, rate in PUBLISHED.items() if chip in notes.accelerator), None)
    speed = work.tokens / timings[name].median
    notes.row(Row.single("24 layers × 768 on amino acids", "", speed, published and 1.5 * published, unit="tokens/s"))
    if published:
        notes.row(Row.single("24 layers × 768 on amino acids", "the published rate", speed / published, 1.5))


def attention(setting: Setting, notes: Notes) -> None:
    """Forward and backward of attention alone, by kernel: full rows, and packed documents."""
    size, device = setting.size, torch.device(setting.device)
    shape = (setting.rows * setting.length, size.heads, size.width // size.heads)
    q, k, v, slope = (torch.randn(shape, device=device).bfloat16().requires_grad_() for _ in range(4))
    lengths = document_lengths(2 * setting.rows, mean=0.45 * setting.length, longest=setting.length)
    segments = packed(padded(lengths, setting.length, size.vocabulary), setting.length).batch["segment_ids"]
    segments = segments[: setting.rows].to(device)

    def both(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            torch.autograd.grad(attend(q, k, v), (q, k, v), slope)

        return run

    def dense(*backend: SDPBackend) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        def attend(*heads: Tensor) -> Tensor:
            by_row = [x.view(setting.rows, setting.length, *x.shape[1:]).transpose(1, 2) for x in heads]
            with sdpa_kernel(list(backend)) if backend else nullcontext():
                out = nn.functional.scaled_dot_product_attention(by_row[0], by_row[1], by_row[2])
            return out.transpose(1, 2).reshape(shape)

        return attend

    def packed_flash() -> Callable[[], None]:
        plan = packed_documents(None, segments)[1]
        return both(lambda q, k, v: plan(q, k, v, 0.0))

    def full_flash() -> Callable[[], None]:
        offsets = torch.arange(0, shape[0] + 1, setting.length, dtype=torch.int32, device=device)
        return both(lambda q, k, v: PackedPlan(offsets, setting.length)(q, k, v, 0.0))

    def packed_flex() -> Callable[[], None]:
        mask = flex_block_mask(segments, None, *segments.shape, device)
        return both(lambda q, k, v: FlexPlan(*segments.shape, mask)(q, k, v, 0.0))

    makers: dict[str, Callable[[], Step]] = {"SDPA, math": lambda: both(dense(SDPBackend.MATH))}
    if setting.device == "cuda":
        makers = {
            "SDPA, its own choice": lambda: both(dense()),
            "SDPA, flash": lambda: both(dense(SDPBackend.FLASH_ATTENTION)),
            "SDPA, cuDNN": lambda: both(dense(SDPBackend.CUDNN_ATTENTION)),
            "variable-length flash, full rows": full_flash,
            "variable-length flash, packed": packed_flash,
            "FlexAttention, packed": packed_flex,
        }
    timings = timed(makers, setting, notes, square=False)
    full = 12 * size.width * setting.length * shape[0]
    notes.report["tflops"] = {name: full / t.median / 1e12 for name, t in timings.items() if "packed" not in name}


def compiled_by_parts(step: TrainingStep, compiled: bool) -> TrainingStep:
    """A peer with its layers, its head and its loss through ``torch.compile``, or as it is."""
    if not compiled:
        return step
    for name, part in step.model.named_modules():
        if isinstance(part, nn.ModuleList):
            for layer in part:
                layer.compile()
        elif name in ("cls", "head"):
            part.compile()
    model: Any = step.model
    model.loss_function = torch.compile(model.loss_function)
    return step


def timed(
    makers: dict[str, Callable[[], Step]], setting: Setting, notes: Notes, square: bool = True
) -> dict[str, Timing]:
    """Timings of those that could be made; the others are noted as errors."""
    contestants: dict[str, Any] = prepare(makers, setting, notes)
    if square:
        product = SquareProduct(8192 if setting.device == "cuda" else 64, "bf16", setting.device)
        contestants[SQUARE] = product
    timings = take_turns(contestants, setting.turns, warm_up=2, device=setting.device)
    notes.report["seconds"] = {name: {"median": t.median, "turns": t.seconds} for name, t in timings.items()}
    if square:
        notes.report["square_tflops"] = product.flops / timings[SQUARE].median / 1e12
    notes.save()
    if not any(name != SQUARE for name in timings):
        raise RuntimeError(f"nothing could be measured: {notes.report['errors']}")
    return timings


def fastest(timings: dict[str, Timing], *starts: str, without: str = "\0") -> str | None:
    """The fastest of those whose name starts so."""
    names = [name for name in timings if name.startswith(starts) and without not in name]
    return min(names, key=lambda name: timings[name].median, default=None)


def note_rates(timings: dict[str, Timing], works: dict[str, Work], size: Size, notes: Notes) -> None:
    """Tokens/s and MFU of every contestant."""
    notes.report["tokens_per_second"] = {n: w.tokens / timings[n].median for n, w in works.items() if n != SQUARE}
    notes.report["mfu"] = {
        n: size.step_flops(w.lengths, w.scored) / timings[n].median / PEAK for n, w in works.items() if n != SQUARE
    }


def note_mfu(
    what: str, name: str | None, timings: dict[str, Timing], works: dict[str, Work], size: Size, notes: Notes
) -> None:
    """MFU with its target, and the fraction of a square product's rate."""
    if name is None or name not in timings:
        return
    seconds = timings[name].seconds
    flops = size.step_flops(works[name].lengths, works[name].scored)
    rates = [flops / s / PEAK for s in seconds]
    notes.row(Row(f"{what}: MFU", "", flops / timings[name].median / PEAK, min(rates), max(rates), 0.5, "%"))
    if SQUARE in timings:
        share = flops / timings[name].median / 1e12 / notes.report["square_tflops"]
        notes.row(Row.single(f"{what}: fraction of a square product's rate", "", share, unit="%"))
