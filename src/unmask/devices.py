"""Where tensors live: which devices are here, which one a user means, and what it can compute in.

Apple's ``mps`` has no float64. What wants it is computed on the host there, or in float32 where that is enough.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES: dict[str, torch.dtype | None] = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_WITHOUT_FLOAT64 = ("mps",)


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64."""
    return device.type not in _WITHOUT_FLOAT64


def wide_dtype(device: torch.device) -> torch.dtype:
    """float64 where a device has it, else float32."""
    return torch.float64 if has_float64(device) else torch.float32


def wide(x: Tensor) -> Tensor:
    """Numbers in the widest type of their device: float64, or float32 where there is none."""
    return x.to(wide_dtype(x.device))


def device_of(model: Any) -> torch.device:
    """Where the model's parameters are; the CPU for a model without any."""
    first = next(model.parameters(), None) if hasattr(model, "parameters") else None
    return torch.device("cpu") if first is None else first.device


def present() -> list[str]:
    """The kinds of device that this machine has for torch, the fastest first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [*(name for name, there in found.items() if there), "cpu"]


def choose_device(wanted: str | torch.device = "cpu") -> torch.device:
    """The device a user means.

    Args:
        wanted: ``auto`` (the fastest that is here), ``cpu``, ``cuda``, ``mps``, one of several as ``cuda:1``, or a ``torch.device``.

    Raises:
        ValueError: no such device here.
    """
    here = present()
    if wanted == "auto":
        return torch.device(here[0])
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ValueError(
            f"There is no device {wanted!r}. Choose auto, or one of those present here: {', '.join(here)}."
        ) from None
    if device.type == "meta":
        return device
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in here or (device.index or 0) >= count:
        raise ValueError(
            f"The device {str(wanted)!r} is not present here; present: {', '.join(here)}. Choose one of these, or auto."
        )
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype | None:
    """The type of the weights that a user means; None = as they were saved.

    Raises:
        ValueError: an unknown name, or float16 on a CPU, which has no fast products for it.
    """
    if wanted not in DTYPES:
        raise ValueError(f"There is no --dtype {wanted!r}. Choose one of {', '.join(DTYPES)}.")
    if wanted == "float16" and device.type == "cpu":
        raise ValueError(
            "float16 is for accelerators, and on a CPU its products are slow and overflow: choose bfloat16 or float32."
        )
    return DTYPES[wanted]
