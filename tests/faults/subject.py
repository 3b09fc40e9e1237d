"""A training run that kills itself: the subject of ``tests.faults.matrix``, which imports this module once and forks it."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask import storage
from unmask.build import run as build_run
from unmask.build.run import train
from unmask.training import callbacks, data, module, trainer  # noqa: F401 (imported once, before the forks)
from unmask.training.checkpoints import Checkpoints


def config_tree(run: Path, corpus: Path, ema: float) -> dict:
    """Return a config of a tiny network and fourteen steps; write its corpus if it is absent."""
    if not corpus.is_dir():
        corpus.mkdir(parents=True)
        rng = random.Random(0)
        for number in range(40):
            words = (
                f"{rng.choice(('cat', 'dog', 'aunt'))} {rng.choice(('sees', 'finds'))} stone {number % 7}."
                for _ in range(20)
            )
            (corpus / f"{number:02d}.txt").write_text("\n".join(words))
    return {
        "run": str(run),
        "data": {"source": str(corpus), "vocab_size": 300, "block_size": 32, "valid_fraction": 0.2},
        "model": {"preset": None, "d_model": 16, "num_layers": 1, "nhead": 2, "max_length": 64},
        "optim": {"lr": 0.01, "ema": ema},
        "train": {
            "steps": 14, "batch_size": 8, "evaluate_every": 4, "checkpoint_every": 3, "evaluate_rows": 16, "log_every": 2,
            "precision": "fp32", "logger": "none",
        },
    }  # fmt: skip


def arm(kind: str, number: int) -> None:
    """Kill this process at the ``number``-th file operation inside a save, or inside ``prepare``."""
    inside, left = False, number

    def within(function):
        def armed(*arguments, **options):
            nonlocal inside
            inside = True
            try:
                return function(*arguments, **options)
            finally:
                inside = False

        return armed

    def counted(function):
        def armed(*arguments, **options):
            nonlocal left
            left -= inside
            if inside and left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return armed

    if kind == "save":
        Checkpoints.save = within(Checkpoints.save)
    else:
        build_run.prepare_data = within(build_run.prepare_data)
    for owner, name in (
        (storage.os, "fsync"),
        (storage.os, "rename"),
        (storage.os, "replace"),
        (storage.shutil, "rmtree"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))


def main(tree: dict, moment: str, armed: Any) -> None:
    """Train; die at ``moment``: ``save:N`` or ``prepare:N``, the N-th file operation there, or ``never``.

    Args:
        tree: the config.
        moment: when to die.
        armed: event to set before training.
    """
    if moment != "never":
        kind, _, number = moment.partition(":")
        arm(kind, int(number))
    armed.set()
    with open(os.devnull, "w") as nowhere:
        train(tree, console=Console(file=nowhere), workers=1)
