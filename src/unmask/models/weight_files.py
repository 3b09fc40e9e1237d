"""The weights of a checkpoint: one safetensors file, or one file of parts per process of a run with ``train.strategy=fsdp``.

    model.safetensors                                  all weights
    sharded/shard-00001-model-00001-of-00002.safetensors   the parts of process 1; the header says where each part begins
    sharded/shard-00001-model-00002-of-00002.safetensors   its parts of the training state (raw weights, moments)

PyTorch's Distributed Checkpoint writes the parts, without pickle. They are read here without other processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = "model.safetensors"
SHARDED = "sharded"
_PARTS = "shard-*-model-00001-of-00002.safetensors"


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a checkpoint, sorted; none if there are no weights."""
    whole = folder / WEIGHTS
    return [whole] if whole.is_file() else sorted((folder / SHARDED).glob(_PARTS))


def is_sharded(folder: Path) -> bool:
    """Tell whether a checkpoint holds its weights as parts."""
    return not (folder / WEIGHTS).is_file() and bool(weight_files(folder))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by name, put together from their parts if need be.

    Raises:
        ValueError: parts that do not fit together.
    """
    files = weight_files(folder)
    if len(files) == 1 and files[0].name == WEIGHTS:
        return load_file(files[0])
    parts: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {}
    for file in files:
        for name, (offsets, part) in _read_parts(file).items():
            parts.setdefault(name, []).append((offsets, part))
    return {name: _put_together(folder, name, found) for name, found in sorted(parts.items())}


def _read_parts(file: Path) -> dict[str, tuple[tuple[int, ...], Tensor]]:
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads((opened.metadata() or {}).get("DCP_SHARDING_INFO", "{}"))
            return {
                name: (tuple(facts[name]["saved_offsets"]), opened.get_tensor(name))
                for name in opened.keys()  # noqa: SIM118 (no mapping)
            }
    except (KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"{file} does not say where its parts belong ({error}), so it cannot be read.") from error


def _put_together(folder: Path, name: str, parts: list[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    shape = [max(o[axis] + p.shape[axis] for o, p in parts) for axis in range(parts[0][1].dim())]
    if sum(part.numel() for _, part in parts) != prod(shape):
        raise ValueError(f"The parts of {name} in {folder / SHARDED} do not fill its shape {shape}: some are missing.")
    whole = torch.empty(shape, dtype=parts[0][1].dtype)
    for offsets, part in parts:
        whole[tuple(slice(o, o + n) for o, n in zip(offsets, part.shape, strict=True))] = part
    return whole


def count_parameters(folder: Path) -> int:
    """Count the numbers in the weights of a folder from the headers of its files; tied weights count once."""
    total = 0
    for path in weight_files(folder):
        with safe_open(path, "pt") as file:
            total += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no mapping)
    return total


def recorded_digest(manifest: Mapping[str, Any], folder: Path) -> str:
    """Return the SHA-256 of the weights of a checkpoint as its manifest records it; of several files, that of their digests."""
    names = [str(file.relative_to(folder)) for file in weight_files(folder)]
    digests = [str(manifest["files"][name]["sha256"]) for name in names]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
