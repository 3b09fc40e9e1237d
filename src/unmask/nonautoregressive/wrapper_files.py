"""Weights of a wrapper in checkpoint folders with a manifest.

Shared tensors (tied embeddings) are saved once, under their first name; the wrapper restores the other names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from unmask.models.files import WEIGHTS, verify_manifest
from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper
from unmask.training.checkpoints import STATE, VerifiedCheckpointIO


def read_weights(folder: Path, wrapper: NonAutoregressiveWrapper) -> None:
    """Load the weights of a checkpoint folder into a wrapper with the same options.

    Args:
        folder: the checkpoint.
        wrapper: receives the weights.

    Raises:
        ValueError: an incomplete folder, or weights of another wrapper.
    """
    verify_manifest(folder)
    try:
        wrapper.load_state_dict(_complete(load_file(folder / WEIGHTS), wrapper))
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"The weights in {folder} do not fit this wrapper: {' '.join(str(error).split())[:300]}"
        ) from error


def _complete(weights: dict[str, Tensor], wrapper: NonAutoregressiveWrapper) -> dict[str, Tensor]:
    first: dict[int, str] = {}
    for name, tensor in wrapper.state_dict().items():
        owner = first.setdefault(tensor.data_ptr(), name)
        if name not in weights and owner != name:
            weights[name] = weights[owner]
    return weights


class WrapperCheckpointIO(VerifiedCheckpointIO):
    """Lightning checkpoints of a wrapper, as folders with a manifest.

    Args:
        wrapper: the trained wrapper.
        config: content of ``config.json``.
        extra_files: further files of the folder: name -> text.
    """

    def __init__(self, wrapper: NonAutoregressiveWrapper, config: dict[str, Any], extra_files: dict[str, str]) -> None:
        super().__init__({"architecture": "NonAutoregressiveWrapper", **config}, extra_files)
        self.wrapper = wrapper

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint after verifying its manifest."""
        path = Path(path)
        verify_manifest(path)
        checkpoint: dict[str, Any] = torch.load(path / STATE, map_location=map_location or "cpu", weights_only=True)
        weights = _complete(load_file(path / WEIGHTS), self.wrapper)
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in weights.items()}
        return checkpoint
