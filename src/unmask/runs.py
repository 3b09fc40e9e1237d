"""Run folders: open one for writing, or load the trained model of one."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from unmask.config.config_file import save_config
from unmask.config.override import flat_keys
from unmask.config.tree import Config, load_config
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.devices import choose_device, choose_dtype
from unmask.launch import is_first_process
from unmask.models.files import INDEX, read_model, resolve_checkpoint, usable_checkpoint, verify_manifest
from unmask.models.networks import Network
from unmask.run_folder import sweep_run


@dataclass(frozen=True)
class LoadedRun:
    """A trained network of a run, with its tokenizer and config.

    Attributes:
        model: the network, in eval mode.
        tokenizer: its tokenizer.
        config: the config of the run.
        folder: the checkpoint.
        step: optimiser steps of the checkpoint.
        dtype: the requested dtype of the weights, as given to :func:`load_run`.
    """

    model: Network
    tokenizer: Tokenizer
    config: Config
    folder: Path
    step: int
    dtype: str = "auto"


def load_run(
    path: str | Path,
    which: str = "last",
    device: str | torch.device = "cpu",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> LoadedRun:
    """Load a trained network from a run folder or a checkpoint.

    Args:
        path: run folder, checkpoints folder, or one checkpoint.
        which: ``"last"``, or ``"best"`` by validation loss.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest device present.
        dtype: dtype of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the saved dtype.
        trust_remote_code: run code that the checkpoint holds.

    Raises:
        ValueError: no finished checkpoint, a damaged one, code that is not trusted, or an absent device.
    """
    target = choose_device(device)
    kind = choose_dtype(dtype, target)
    folder = resolve_checkpoint(path, which)
    manifest = verify_manifest(folder)
    model = read_model(folder, trust_remote_code).to(target, kind)
    return LoadedRun(
        model,
        Tokenizer.load(folder / "tokenizer.json"),
        load_config(folder / "run.yaml"),
        folder,
        int(manifest["step"]),
        dtype,
    )


RESUMABLE_KEYS = frozenset(
    {
        "run",
        "data.workers",
        "data.store",
        "data.wait_minutes",
        "train.steps",
        "train.accumulate",
        "train.checkpoint_activations",
        "train.compile",
        "train.device",
        "train.devices",
        "train.nodes",
        "train.strategy",
        "train.evaluate_every",
        "train.checkpoint_every",
        "train.keep",
        "train.log_every",
        "train.logger",
        "train.resume",
    }
)
"""Config keys that a resumed run may change: hardware, intervals, logger and length. All other keys change what is computed."""


def open_run(config: Config, run: Path) -> Path | None:
    """Open a run folder for training: write its config, or check that its saved config computes the same.

    Args:
        config: the config of the run.
        run: the run folder.

    Returns:
        The checkpoint to resume from, or None for a new run.

    Raises:
        ValueError: a folder with a checkpoint of another config, or a file in place of the folder.
    """
    saved, index = run / "config.yaml", run / "checkpoints" / INDEX
    if run.exists() and not run.is_dir():
        raise ValueError(f"The run folder {run} is a file. Choose another folder with run=….")
    if not is_first_process():  # rank 0 writes the folder
        return resolve_checkpoint(run) if index.is_file() else None
    if (saved.is_file() or index.is_file()) and not config.train.resume:
        if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            raise ValueError(
                f"train.resume=false would move the run folder {run} aside while other processes of this launch may already "
                "be reading it (torchrun and SLURM start all processes at once). Move or delete the folder first, or choose "
                "another one with run=…."
            )
        home = run.resolve()
        home.rename(next(p for n in itertools.count(1) if not (p := home.with_name(f"{home.name}.{n}")).exists()))
    sweep_run(run)
    # Without a checkpoint the folder holds no result yet, and another config may replace the saved one.
    if index.is_file():
        begun_with = saved if saved.is_file() else usable_checkpoint(index.parent) / "run.yaml"
        before, now = (flat_keys(c.model_dump()) for c in (load_config(begun_with), config))
        different = [k for k in now if k not in RESUMABLE_KEYS and before.get(k) != now[k]]
        if different:
            changes = ", ".join(f"{k} (saved: {before.get(k)!r}, now: {now[k]!r})" for k in different[:6])
            raise ValueError(
                f"The run folder {run} was begun with another config; different: {changes}. Set these keys to the saved values "
                "to resume the run, choose another folder with run=…, or start anew with train.resume=false (the earlier run "
                "is moved aside)."
            )
    save_config(config, saved)
    return usable_checkpoint(index.parent) if index.is_file() else None
