"""The config of a demonstration, on the device and in the precision that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.config.tree import Config

_PRECISIONS = {"auto": "auto", "float32": "fp32", "bfloat16": "bf16"}


def demo_config(tree: Mapping[str, Any], run: Path, device: str, dtype: str) -> Config:
    """The config of a demonstration.

    Args:
        tree: its settings.
        run: its folder.
        device: to train and decode on (``--device``).
        dtype: to train and evaluate in (``--dtype``).

    Raises:
        ValueError: a device that is not here, or a type that nothing is trained in.
    """
    from unmask.config.tree import load_config
    from unmask.devices import choose_device

    choose_device(device)
    if dtype not in _PRECISIONS:
        raise ValueError(
            f"A demonstration trains, in one of {', '.join(_PRECISIONS)}, and --dtype {dtype} is none of them."
        )
    placed = {"device": device, "precision": _PRECISIONS[dtype]}
    return load_config(base={**tree, "run": str(run), "train": {**tree["train"], **placed}})
