"""The config of a demonstration, with the given device and precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.config.tree import Config

_PRECISIONS = {"auto": "auto", "float32": "fp32", "bfloat16": "bf16"}


def demo_config(tree: Mapping[str, Any], run: Path, device: str, dtype: str) -> Config:
    """Return the config of a demonstration.

    Args:
        tree: its settings.
        run: the run folder.
        device: device of training and decoding (``--device``).
        dtype: dtype of training and evaluation (``--dtype``).

    Raises:
        ValueError: an absent device, or a dtype that training does not support.
    """
    from unmask.config.tree import load_config
    from unmask.devices import choose_device

    choose_device(device)
    if dtype not in _PRECISIONS:
        raise ValueError(
            f"--dtype {dtype} is not supported by a demonstration, which trains a model: choose {', '.join(_PRECISIONS)}."
        )
    hardware = {"device": device, "precision": _PRECISIONS[dtype]}
    return load_config(base={**tree, "run": str(run), "train": {**tree["train"], **hardware}})
