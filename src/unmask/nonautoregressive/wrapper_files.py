"""Weights of a wrapper in checkpoint folders with a manifest.

Shared tensors (tied embeddings) are saved once, under their first name; the wrapper restores the other names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from unmask.models.files import verify_manifest
from unmask.models.tied_weights import load_weights, tied_names
from unmask.models.weight_files import WEIGHTS
from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper
from unmask.training.checkpoints import VerifiedCheckpointIO


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
        load_weights(wrapper, load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {folder} do not fit this wrapper: {' '.join(str(error).split())[:300]}"
        ) from error


class WrapperCheckpointIO(VerifiedCheckpointIO):
    """Lightning checkpoints of a wrapper, as folders with a manifest.

    Args:
        wrapper: the trained wrapper.
        config: content of ``config.json``.
        extra_files: further files of the folder: name -> text.
    """

    def __init__(self, wrapper: NonAutoregressiveWrapper, config: dict[str, Any], extra_files: dict[str, str]) -> None:
        tied = tied_names(wrapper.state_dict())
        super().__init__({"architecture": "NonAutoregressiveWrapper", **config}, extra_files, tied)
