"""The precision of matrix products in training and evaluation."""

from __future__ import annotations

from typing import Literal

import torch

from unmask.devices import choose_device

Precision = Literal["bf16-mixed", "32-true"]  # Lightning's names


def choose_precision(precision: str, device: str | torch.device = "auto") -> Precision:
    """Return Lightning's name of a precision.

    Args:
        precision: ``bf16``, ``fp32``, or ``auto`` for bf16 where the device multiplies it natively and fp32 elsewhere.
        device: the device, or ``auto`` for the fastest one present.
    """
    if precision == "auto":
        kind = choose_device(device).type
        is_native = (
            torch.cuda.is_bf16_supported()
            if kind == "cuda"
            else kind == "cpu" and torch.cpu._is_avx512_bf16_supported()
        )
        precision = "bf16" if is_native else "fp32"
    precisions: dict[str, Precision] = {"bf16": "bf16-mixed", "fp32": "32-true"}
    return precisions[precision]
