"""Lightning checkpoints of the libraries whose names this package keeps: their weights, and the arguments of their class.

A checkpoint is a pickle, which may run code. It is opened with ``weights_only``: tensors and plain values, nothing else.
Arguments come from its hyperparameters, from ``hparams.yaml`` beside the file or one folder up, or from the caller.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from unmask.models.published_layouts import bare, import_state, layout_of
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

SUFFIXES = (".ckpt", ".pt", ".pth")
HPARAMS = "hparams.yaml"


def is_lightning_file(path: str | Path) -> bool:
    """Tell whether a path is a file of a checkpoint, by its suffix."""
    return Path(path).suffix in SUFFIXES and not Path(path).is_dir()


def open_lightning(
    path: str | Path, also: Mapping[str, Any] | None = None, /, **arguments: Any
) -> tuple[RotaryTransformerMLMModel, int | None]:
    """Return the network of a checkpoint, in evaluation mode on the CPU, and its optimiser step (None if unknown).

    Args:
        path: the file.
        also: constructor arguments that are left out where the class has none of the name.
        arguments: constructor arguments of the published class; they replace those of the checkpoint.

    Raises:
        ValueError: no such file, content other than tensors and plain values, or weights of another layout.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"There is no checkpoint {file}. Give the path of a Lightning checkpoint (.ckpt).")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        rewrite = (
            f"import torch; c = torch.load({str(file)!r}, weights_only=False); "
            "torch.save({'state_dict': c['state_dict']}, 'weights.ckpt')"
        )
        raise ValueError(
            f"{file} holds more than tensors and plain values, or is damaged ({' '.join(str(error).split())[:160]}), and opening such a pickle "
            f'can run code. If you trust it, write its weights alone, where it was made: python -c "{rewrite}".'
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} has no state_dict of tensors. Give a checkpoint of Lightning, or a saved state dict.")
    step = content.get("global_step")
    known = _class_arguments(_beside(file)) | _class_arguments(content.get("hyper_parameters") or {})
    accepted = layout_of(bare(state)).arguments
    if unknown := sorted(set(arguments) - set(accepted)):
        raise ValueError(f"{', '.join(unknown)} is no argument of this layout. It reads {', '.join(accepted)}.")
    known |= {name: value for name, value in (also or {}).items() if name in accepted}
    return import_state(state, known | arguments), step if isinstance(step, int) else None


def beside(file: Path, name: str) -> Path | None:
    """Return the file of this name in the folder of a checkpoint, or one folder up."""
    return next((folder / name for folder in (file.parent, file.parent.parent) if (folder / name).is_file()), None)


def _beside(file: Path) -> Mapping[str, Any]:
    saved = beside(file, HPARAMS)
    content = None if saved is None else yaml.safe_load(saved.read_text(encoding="utf-8"))
    return content if isinstance(content, Mapping) else {}


def _class_arguments(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the published class: those at the top, and those of a section ``model``."""
    section = hyperparameters.get("model")
    found = {**hyperparameters, **(section if isinstance(section, Mapping) else {})}
    return {str(key): value for key, value in found.items() if isinstance(value, int | float | str) or value is None}
