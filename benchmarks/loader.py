"""Data loading: tokens per second on one core from a token store to batches.

    python -m benchmarks.loader [--turns 20] [--json loader.json]

A store of 16 million tokens in documents of log-normal length is written to a temporary folder. Batches are built as in
`unmask train`: sampling, windows from the mapped file, collation with corruption. One thread; the file is in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from unmask.collate.packed import PackedMLMCollator
from unmask.contracts import SpecialIds
from unmask.data.store.token_store import FORMAT, MANIFEST, VERSION, TokenStore
from unmask.measure.report_table import Row
from unmask.measure.turns import Timing, take_turns
from unmask.measure.work import FIRST_ORDINARY, MASK, PAD
from unmask.ops.corruption import bert_corruption
from unmask.storage import digest, write_json
from unmask.training.data import InfiniteSampler, WindowDataset

VOCABULARY, BOS, EOS = 32_000, 2, 3
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCABULARY, pad=PAD, bos=BOS, eos=EOS, others=(4,))
SHAPES = ((8, 512), (32, 1024))
TARGET = 50.0  # million tokens per second and core


def synthetic_store(folder: Path, tokens: int, seed: int = 0, shards: int = 1) -> TokenStore:
    """A store of random ids; what a token is does not change what it costs to move."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(6.0, 1.0, 2 * tokens // 400), 2, 100_000).astype(np.int64)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), tokens)) + 1]
    ids = rng.integers(FIRST_ORDINARY, VOCABULARY, lengths.sum(), dtype=np.uint16)
    ids[np.cumsum(lengths) - 1] = EOS
    described = []
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for number, part in enumerate(np.array_split(np.arange(len(lengths)), shards)):
        files = {"tokens": folder / f"tokens-{number:05}.bin", "docs": folder / f"docs-{number:05}.npy"}
        ids[ends[part[0]] : ends[part[-1] + 1]].astype("<u2").tofile(files["tokens"])
        of_part = lengths[part]
        np.save(files["docs"], np.stack([of_part, 4 * of_part, of_part], axis=1))
        described.append(
            {
                name: {"name": file.name, "bytes": file.stat().st_size, "sha256": digest(file)}
                for name, file in files.items()
            }
        )
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "vocab_size": VOCABULARY,
        "dtype": "uint16",
        "pad": PAD,
        "eos": EOS,
        "mask": MASK,
    }
    write_json(folder / MANIFEST, {**manifest, "shards": described})
    return TokenStore.open(folder)


def batches(store: TokenStore, rows: int, length: int, corruption: Any = None) -> Iterator[Any]:
    """Training batches without end."""
    windows = WindowDataset(store, length)
    collate = PackedMLMCollator(SPECIAL, length, corruption)
    for draws in InfiniteSampler(windows=len(windows), rows=rows, seed=0):
        yield collate(windows.__getitems__(draws))


def measure(turns: int, tokens: int = 16_000_000, progress: Any = None) -> dict[tuple[int, int, str], Timing]:
    """Seconds per batch, by rows, length and objective, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            store = synthetic_store(Path(folder), tokens)
            bert = bert_corruption(MASK, VOCABULARY, SPECIAL.all)
            contestants: dict[Any, Callable[[], object]] = {}
            for rows, length in SHAPES:
                for name, corruption in (("diffusion", None), ("bert", bert)):
                    source = batches(store, rows, length, corruption)
                    contestants[rows, length, name] = lambda source=source: next(source)  # type: ignore[misc]
            return take_turns(contestants, turns, warm_up=3, progress=progress)
    finally:
        torch.set_num_threads(threads)


def section(turns: int, step_seconds: float | None = None) -> tuple[list[Row], dict[str, Any]]:
    """Rows and report, measured in a process of its own, as loader workers are; with the seconds of a training step of 8 × 512 tokens
    also the loader's share of it."""
    timings = harness.in_fresh_process(measure, turns)
    speeds = {key: key[0] * key[1] / timing.median / 1e6 for key, timing in timings.items()}
    rows = [
        Row.single(
            "token store → batch of 32 × 1,024, one core", "", speeds[32, 1024, "diffusion"], TARGET, unit="M tokens/s"
        )
    ]
    if step_seconds is not None:
        share = timings[8, 512, "bert"].median / step_seconds
        rows.append(Row.single("loader's share of a step", "", share, 0.02, unit="%", at_most=True))
    figures = [
        {"rows": r, "length": n, "objective": o, "seconds": t.median, "million_tokens_per_second": speeds[r, n, o]}
        for (r, n, o), t in timings.items()
    ]
    return rows, {"figures": figures}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=20)
    options = harness.parse(parser)
    rows, report = section(options.turns)
    cells = [
        [
            f"{f['objective']}, {f['rows']} × {f['length']}",
            f"{f['seconds'] * 1e3:.2f}",
            f"{f['million_tokens_per_second']:.1f}",
        ]
        for f in report["figures"]
    ]
    harness.show("from store to batch, one thread", ["objective, batch", "ms", "M tokens/s"], cells)
    harness.show_rows("beside the target", rows)
    harness.write(options.json, "loader", {**report, "rows": [row.as_dict() for row in rows]})


if __name__ == "__main__":
    main()
