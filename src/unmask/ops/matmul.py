"""``x @ weight.T + bias`` by the fastest available matrix product.

On a CPU, PyTorch's float32 products use the BLAS of its build. oneDNN's products, which compiled inference uses, were
1.1 to 3 times as fast on the machine measured: most with few rows against a large vocabulary, and 1.2 to 1.5 times
with the thousands of rows of a training step. Results agree up to rounding.

Shapes: ``x [..., inputs]``, ``weight [outputs, inputs]`` in either memory order, ``bias [outputs]``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_mkldnn: Any = torch.backends.mkldnn
HAS_ONEDNN = bool(_mkldnn.is_available()) and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
)
"""Whether this PyTorch has oneDNN's product and its weight layout on a CPU; constant, so that compiled code can read it."""


def uses_onednn(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN computes this product: float32, on a CPU, outside autocast."""
    return (
        HAS_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and x.dim() > 1
        and not torch.is_autocast_enabled("cpu")
        and (torch.compiler.is_compiling() or bool(_mkldnn.enabled))
    )


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product; no gradient flows through oneDNN's."""
    if not uses_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.compiler.is_compiling():
        product: Tensor = _opaque(x, weight, bias)
        return product
    return _onednn(x, weight, bias)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@torch.library.custom_op(
    "unmask::product", mutates_args=(), device_types="cpu", schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor"
)
def _opaque(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply in one opaque call, which ``torch.compile`` cannot replace by BLAS."""
    return _onednn(x, weight, bias)


@_opaque.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])
