"""``x @ weight.T + bias`` by the fastest matrix product there is.

On a CPU PyTorch's float32 products go to the BLAS that it was built with. oneDNN's, which compiled inference uses, was 1.1 to 3
times as fast on the machine we measured, most with few rows against a large vocabulary, and 1.2 to 1.5 times with the thousands of rows
of a training step. Results agree to rounding.

Shapes: ``x [..., inputs]``, ``weight [outputs, inputs]`` in either memory order, ``bias [outputs]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HAS_ONEDNN = bool(torch.backends.mkldnn.is_available()) and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
)
"""Whether this PyTorch has oneDNN's product, and its layout of weights, for the CPU. (Known beforehand: a compiled program cannot ask.)"""


def uses_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies these: float32, on a CPU, outside autocast."""
    return (
        HAS_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and x.dim() > 1
        and not torch.is_autocast_enabled("cpu")
        and (torch.compiler.is_compiling() or bool(torch.backends.mkldnn.enabled))  # type: ignore[attr-defined]
    )


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product, without a gradient where oneDNN makes it."""
    if not uses_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.compiler.is_compiling():
        return _opaque(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


@torch.library.custom_op(
    "unmask::product", mutates_args=(), device_types="cpu", schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor"
)
def _opaque(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One call in a compiled program, which would give it back to BLAS otherwise."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


@_opaque.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])
