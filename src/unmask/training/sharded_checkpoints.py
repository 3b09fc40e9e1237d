"""Checkpoints of split weights: each process writes its parts, in the background, through PyTorch's Distributed Checkpoint.

    step-00000400/sharded/          parts of weights, raw weights of an average, and moments, as safetensors (models.weight_files)
    step-00000400/training_state.pt everything that is no weight: counters, learning-rate groups, states of callbacks
    step-00000400/checkpoint.json   the manifest of all files; and the other files of any checkpoint

The parts are copied first, and training goes on while they are written. When all processes have written theirs, the first one
adds the other files and the manifest, and renames the folder into place: a kill at any moment leaves the previous checkpoint
valid. Another number of processes can read the parts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse, async_save
from torch.distributed.tensor import DTensor

from unmask.models.weight_files import SHARDED
from unmask.storage import atomic_folder

RAW, MOMENTS = "raw/", "moments/"  # prefixes of the names of parts that are no weights of the finished network


class BackgroundSaves:
    """Writes parts of tensors in the background, one checkpoint at a time; all processes call the methods together."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[Future[None]] = []
        self._group: Any = None

    def start(self, path: Path, tensors: Mapping[str, Tensor], complete: Callable[[Path], None]) -> None:
        """Copy tensors and write them to ``path / "sharded"`` in the background.

        Args:
            path: the checkpoint; the folder appears when it is complete.
            tensors: by name; those without ``/`` in their name are weights.
            complete: writes the other files into a folder; called once, by the first process.

        Raises:
            ValueError: the checkpoint before could not be written.
        """
        self.wait()
        if self._group is None:  # its own group: training uses the default one at the same time
            self._group = dist.new_group(backend="gloo")
        first, stack = dist.get_rank() == 0, ExitStack()
        folder: list[Any] = [None]
        if first:
            if path.exists():  # the same step was saved before the run was resumed from an earlier one
                shutil.rmtree(path)
            folder = [stack.enter_context(atomic_folder(path))]
        dist.broadcast_object_list(folder, 0, group=self._group)
        saving = async_save(
            dict(tensors),
            storage_writer=HuggingFaceStorageWriter(
                str(folder[0] / SHARDED),
                fqn_to_index_mapping={name: 2 if "/" in name else 1 for name in tensors},
                save_distributed=True,
            ),
            process_group=self._group,
        )

        written = saving.upload_completion if isinstance(saving, AsyncSaveResponse) else saving

        def finish() -> None:
            with stack:
                written.result()
                if first:
                    complete(folder[0])

        self._pending = [self._executor.submit(finish)]

    def then(self, commit: Callable[[], None]) -> None:
        """Call ``commit`` in the first process, once the checkpoint is complete."""

        def run(before: list[Future[None]]) -> None:
            for each in before:
                each.result()
            commit()

        if dist.get_rank() == 0:
            self._pending.append(self._executor.submit(run, list(self._pending)))

    def wait(self) -> None:
        """Wait until the checkpoint is written.

        Raises:
            ValueError: a process could not write it.
        """
        if self._group is None:
            return
        pending, self._pending = self._pending, []
        errors = [error for each in pending if (error := each.exception()) is not None]
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, str(errors[0]) if errors else None, group=self._group)
        if errors:
            raise errors[0]
        for rank, error in enumerate(found):
            if error is not None:
                raise ValueError(f"Process {rank} could not write its part of the checkpoint: {error}")


@runtime_checkable
class WritesInBackground(Protocol):
    """A strategy that writes checkpoints in the background: the index may name one only when it is complete."""

    saves: BackgroundSaves


def read_parts(folder: Path, targets: dict[str, Tensor]) -> None:
    """Read the parts of tensors, in place; all processes call it together.

    Args:
        folder: the checkpoint.
        targets: tensors by their name in the checkpoint.
    """
    load(targets, storage_reader=HuggingFaceStorageReader(str(folder / SHARDED)))


def optimizer_parts(optimizer: Any) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimisers that hold state: those inside a combined one, or the optimiser."""
    return tuple(getattr(optimizer, "parts", (optimizer,)))


def optimizer_state(module: nn.Module, optimizer: Any) -> list[dict[str, Any]]:
    """Return the state of an optimiser by names of parameters: for each part of it, ``state`` and ``groups``."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [
        {
            "state": {names[id(parameter)]: dict(values) for parameter, values in part.state.items()},
            "groups": [
                {**group, "params": [names[id(parameter)] for parameter in group["params"]]}
                for group in part.param_groups
            ],
        }
        for part in optimizer_parts(optimizer)
    ]


def take_moments(states: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return the split tensors of an optimiser's state by name; the state keeps an empty tensor of their dtype in their place."""
    found: dict[str, Tensor] = {}
    for part in states:
        for name, values in part["state"].items():
            for key, value in values.items():
                if isinstance(value, DTensor):
                    found[f"{MOMENTS}{name}/{key}"] = value
                    values[key] = torch.empty(0, dtype=value.dtype)
    return found


def set_optimizer_state(module: nn.Module, optimizer: Any, states: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Set the state of an optimiser from :func:`optimizer_state`, with zeros for the split tensors.

    Returns:
        The split tensors by name, to be read in place.

    Raises:
        ValueError: the state is that of another optimiser.
    """
    parameters, targets = dict(module.named_parameters()), dict[str, Tensor]()
    for part, saved in zip(optimizer_parts(optimizer), states, strict=True):
        for name, values in saved["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.dim() == 1 and not value.numel():
                    zeros = torch.zeros_like(parameters[name], dtype=value.dtype, requires_grad=False)
                    values[key] = targets[f"{MOMENTS}{name}/{key}"] = zeros
            part.state[parameters[name]] = values
        for group, before in zip(part.param_groups, saved["groups"], strict=True):
            group.update({key: value for key, value in before.items() if key != "params"})
    return targets
