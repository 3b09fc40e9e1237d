"""Run folders: open one to write to, load or resume what it holds."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.config.tree import Config, load_config, save_config
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.devices import choose_device, choose_dtype
from unmask.models.files import INDEX, read_model, resolve_checkpoint, usable_checkpoint, verify_manifest
from unmask.models.rotary_mlm import RotaryTransformerMLMModel


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with what it needs: ``unmask`` commands and scripts start here."""

    model: RotaryTransformerMLMModel
    tokenizer: Tokenizer
    config: Config
    folder: Path
    step: int
    dtype: str = "auto"


def load_run(
    path: str | Path, which: str = "last", device: str | torch.device = "cpu", dtype: str = "auto"
) -> LoadedRun:
    """Load a trained model from a run folder or a checkpoint.

    Args:
        path: run folder, checkpoints folder, or one checkpoint.
        which: ``"last"`` or ``"best"`` (by held-out loss).
        device: where the network goes: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest that is here.
        dtype: of its weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for as they were saved.

    Raises:
        ValueError: nothing there, nothing finished, or damaged; a device that is not here.
    """
    at = choose_device(device)
    kind = choose_dtype(dtype, at)
    folder = resolve_checkpoint(path, which)
    manifest = verify_manifest(folder)
    model = read_model(folder).to(at, kind)
    return LoadedRun(
        model,
        Tokenizer.load(folder / "tokenizer.json"),
        load_config(folder / "run.yaml"),
        folder,
        int(manifest["step"]),
        dtype,
    )


# What a resumed run may change: where and how it runs, and for how long; not what it computes.
RESUMABLE_KEYS = frozenset(
    {
        "run",
        "data.workers",
        "data.store",
        "train.steps",
        "train.accumulate",
        "train.checkpoint_activations",
        "train.compile",
        "train.device",
        "train.devices",
        "train.nodes",
        "train.evaluate_every",
        "train.checkpoint_every",
        "train.log_every",
        "train.resume",
    }
)


def flat_keys(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def is_first_process() -> bool:
    """Whether this is the process that writes: rank 0 of those that Lightning, torchrun or SLURM started."""
    rank = next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0")
    return rank == "0"


def open_run(config: Config, run: Path) -> Path | None:
    """Write the run folder's config, or make sure that the one there computes the same.

    Returns:
        The checkpoint to resume from, or None to begin.

    Raises:
        ValueError: the folder holds a checkpoint made with another config, or is a file.
    """
    saved, index = run / "config.yaml", run / "checkpoints" / INDEX
    if run.exists() and not run.is_dir():
        raise ValueError(f"The run folder {run} is a file. Give another folder with run=….")
    if not is_first_process():  # the first one claims the folder
        return resolve_checkpoint(run) if index.is_file() else None
    if saved.is_file() and not config.train.resume:
        if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            raise ValueError(
                f"train.resume=false would move the run folder {run} aside while other processes of this launch may already be reading "
                "it: processes started by torchrun or SLURM start together. Move or delete the folder first, or give another with run=…."
            )
        home = run.resolve()
        home.rename(next(p for n in itertools.count(1) if not (p := home.with_name(f"{home.name}.{n}")).exists()))
    if (
        saved.is_file() and index.is_file()
    ):  # before its first checkpoint a run holds nothing that another config would spoil
        before, now = (flat_keys(c.model_dump()) for c in (load_config(saved), config))
        different = [k for k in now if k not in RESUMABLE_KEYS and before.get(k) != now[k]]
        if different:
            changes = ", ".join(f"{k} (was {before.get(k)!r}, now {now[k]!r})" for k in different[:6])
            raise ValueError(
                f"The run folder {run} was begun with another config; different: {changes}. Repeat the earlier values to resume it, "
                "give another folder with run=…, or start anew with train.resume=false (the earlier run is moved aside)."
            )
    save_config(config, saved)
    return usable_checkpoint(index.parent) if index.is_file() else None
