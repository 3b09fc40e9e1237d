"""What to do after a NaN or infinite loss or gradient: stop, or skip the step (``train.non_finite``).

Either way ``non_finite.jsonl`` in the run folder gets a line: the step, ``loss`` or ``gradient``, and the examples of the step,
which are numbers of rows of the training store in the way that the run cuts it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from lightning.pytorch import Trainer

FILE = "non_finite.jsonl"
POLICIES = ("stop", "skip")


def check_policy(policy: str) -> str:
    """Return the policy.

    Raises:
        ValueError: it is none of :data:`POLICIES`.
    """
    if policy not in POLICIES:
        raise ValueError(f"non_finite={policy!r} is none of {', '.join(POLICIES)}: choose one of them.")
    return policy


def stop_or_skip(trainer: Trainer, optimizer: torch.optim.Optimizer, what: str, policy: str) -> None:
    """Write the examples of the step down, and remove its gradients, so that no weight changes.

    Args:
        trainer: the trainer, before its optimiser step.
        optimizer: the optimiser.
        what: ``loss`` or ``gradient``.
        policy: ``stop`` or ``skip``.

    Raises:
        ValueError: the policy is ``stop``.
    """
    step = trainer.global_step + 1
    examples_of = getattr(getattr(trainer, "datamodule", None), "examples_of", None)
    examples = None if examples_of is None else examples_of(trainer.global_step)
    path = Path(trainer.default_root_dir) / FILE
    if trainer.is_global_zero and path.parent.is_dir():
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "what": what, "examples": examples}) + "\n")
    if policy == "stop":
        raise ValueError(
            f"The {what} is NaN or infinite at step {step}; training stopped before the weights changed. {path} lists the examples "
            "of that step. Lower optim.lr (or optim.muon_lr), raise optim.warmup, or lower optim.clip, and run again: the last "
            "checkpoint is intact. train.non_finite=skip leaves such steps out."
        )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None  # optimisers leave these weights and their moments as they are
