"""A wrapper's weights in sealed checkpoint folders.

Tensors that two names share (tied embeddings) are kept once, under the first, and are found again by the wrapper that they are for.
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
    """Put the weights of a sealed folder into a wrapper built as the one that was saved.

    Raises:
        ValueError: the folder is not whole, or its weights are those of another wrapper.
    """
    verify_manifest(folder)
    try:
        wrapper.load_state_dict(_complete(load_file(folder / WEIGHTS), wrapper))
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"The weights in {folder} are not those of this wrapper: {' '.join(str(error).split())[:300]}"
        ) from error


def _complete(weights: dict[str, Tensor], wrapper: NonAutoregressiveWrapper) -> dict[str, Tensor]:
    first: dict[int, str] = {}
    for name, tensor in wrapper.state_dict().items():
        owner = first.setdefault(tensor.data_ptr(), name)
        if name not in weights and owner != name:
            weights[name] = weights[owner]
    return weights


class WrapperCheckpointIO(VerifiedCheckpointIO):
    """Lightning's checkpoints of a wrapper, as sealed folders.

    Args:
        wrapper: what is trained.
        config: what ``config.json`` says of it.
        extra_files: further files of the folder: name -> text.
    """

    def __init__(self, wrapper: NonAutoregressiveWrapper, config: dict[str, Any], extra_files: dict[str, str]) -> None:
        super().__init__({"architecture": "NonAutoregressiveWrapper", **config}, extra_files)
        self.wrapper = wrapper

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(path)
        verify_manifest(path)
        checkpoint = torch.load(path / STATE, map_location=map_location or "cpu", weights_only=True)
        weights = _complete(load_file(path / WEIGHTS), self.wrapper)
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in weights.items()}
        return checkpoint
