"""Devices: which are available, the choice of one, and its dtypes.

Apple's ``mps`` has no float64. Computations in float64 run on the CPU there, or in float32 where that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    """Return whether a device supports float64."""
    return device.type not in _WITHOUT_FLOAT64


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return float64 if the device supports it, else float32."""
    return torch.float64 if has_float64(device) else torch.float32


def wide(x: Tensor) -> Tensor:
    """Cast to the widest float dtype of the tensor's device: float64, or float32 on ``mps``."""
    return x.to(wide_dtype(x.device))


def device_of(model: object) -> torch.device:
    """Return the device of a model's parameters; the CPU for a model without parameters."""
    parameters: Callable[[], Iterator[Tensor]] | None = getattr(model, "parameters", None)
    first = None if parameters is None else next(parameters(), None)
    return torch.device("cpu") if first is None else first.device


def present() -> list[str]:
    """Return the device types available to torch on this machine, the fastest first."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [*(name for name, is_available in available.items() if is_available), "cpu"]


def choose_device(device: str | torch.device = "cpu") -> torch.device:
    """Return the ``torch.device`` of a name.

    Args:
        device: ``auto`` (the fastest available), ``cpu``, ``cuda``, ``mps``, a numbered device such as ``cuda:1``, or a
            ``torch.device``.

    Raises:
        ValueError: the device does not exist on this machine.
    """
    available = present()
    if device == "auto":
        return torch.device(available[0])
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"There is no device {device!r}. Choose auto, or one of those available here: {', '.join(available)}."
        ) from None
    if chosen.type == "meta":
        return chosen
    count = torch.cuda.device_count() if chosen.type == "cuda" else 1
    if chosen.type not in available or (chosen.index or 0) >= count:
        raise ValueError(
            f"The device {str(device)!r} is not available here; available: {', '.join(available)}. Choose one of them, or auto."
        )
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of a name; None = keep the dtype of the saved weights.

    Raises:
        ValueError: an unknown name, or float16 on a CPU, where its matrix products are slow.
    """
    if dtype not in DTYPES:
        raise ValueError(f"There is no --dtype {dtype!r}. Choose one of {', '.join(DTYPES)}.")
    if dtype == "float16" and device.type == "cpu":
        raise ValueError(
            "float16 is for accelerators; on a CPU its matrix products are slow and overflow: choose bfloat16 or float32."
        )
    return DTYPES[dtype]
