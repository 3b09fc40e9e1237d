"""The section of ``benchmarks.gpu`` about the loader: the part of the training time spent waiting for batches.

Batches come from a token store through the loader of ``unmask train``, with worker processes, packing and corruption, and
go through the step of ``base``: masked diffusion, in bf16, with the scored positions located on the host.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gpu_setting import Notes, Setting
from benchmarks.loader import SPECIAL, VOCABULARY, synthetic_store
from unmask.collate.packed import PackedMLMCollator
from unmask.measure.flops import Size
from unmask.measure.report_table import Row
from unmask.measure.step import ours
from unmask.measure.turns import finish
from unmask.measure.work import diffusion_rows
from unmask.training.data import TokenStoreData
from unmask.training.loss import MLMLoss
from unmask.training.module import INDEX_MULTIPLE


def loading(setting: Setting, notes: Notes) -> None:
    """Share of the time spent waiting, tokens/s through the loader, and the step alone."""
    size = Size(setting.size.layers, setting.size.width, setting.size.heads, setting.size.feedforward, VOCABULARY)
    step = ours(
        size, diffusion_rows(setting.rows, setting.length, VOCABULARY), "bf16", weighting="inverse_p",
        compiled=setting.compiled, device=setting.device,
    )  # fmt: skip
    loss, model = MLMLoss(weighting="inverse_p", normaliser="supervised"), step.model
    count, warm_up = (60, 12) if setting.device == "cuda" else (2, 1)
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic_store(Path(folder), 16_000_000 if setting.device == "cuda" else 20_000)
        collate = PackedMLMCollator(SPECIAL, setting.length)
        data = TokenStoreData(
            store, store, block_size=setting.length, batch_size=setting.rows, accumulate=1, collate=collate,
            collate_valid=collate, evaluate_rows=1, steps=count, seed=0, workers=setting.workers,
        )  # fmt: skip
        data.trainer = SimpleNamespace(world_size=1, global_step=0, global_rank=0)  # type: ignore[assignment]
        batches, waited, began = iter(data.train_dataloader()), 0.0, time.perf_counter()
        for number in range(warm_up + count):
            if number == warm_up:
                finish(setting.device)
                waited, began = 0.0, time.perf_counter()
            asked = time.perf_counter()
            batch: dict[str, Any] = next(batches)
            waited += time.perf_counter() - asked
            located = loss.locate(batch, model, INDEX_MULTIPLE)
            there = {k: v.to(setting.device, non_blocking=True) for k, v in located.items() if torch.is_tensor(v)}
            step.loss = lambda there=there: loss(there, model)["loss"]  # type: ignore[misc]
            step()
        finish(setting.device)
        seconds = time.perf_counter() - began
        del batches  # ends the worker processes
    speed = count * setting.rows * setting.length / seconds
    notes.report |= {
        "waited_seconds": waited, "seconds": seconds, "steps": count, "tokens_per_second": speed,
        "graphs": torch._dynamo.utils.counters["stats"].get("unique_graphs", 0) if setting.compiled else 0,
    }  # fmt: skip
    notes.row(Row.single("time spent waiting for batches", "", waited / seconds, 0.02, unit="%", at_most=True))
    notes.row(Row.single("diffusion steps through the loader", "", speed, unit="tokens/s"))
