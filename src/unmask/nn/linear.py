"""A linear layer that takes the fastest matrix product.

On a CPU ``nn.Linear`` in float32 goes to the BLAS that PyTorch was built with. oneDNN's product, which compiled models use, was
1.1 to 3 times as fast on the machine we measured, most with few rows against a large vocabulary, which is what decoding asks
for, and 1.2 to 1.5 times with the thousands of rows of a training step, on the way there and back to the input (the gradient of
the weight is BLAS's in both, which does as well); 1.1 to 2 times faster still with the weights laid out for it beforehand, which :func:`packed` does where it pays, for as long as
they stand still and nobody needs a gradient. Parameters and their names are those of ``nn.Linear``; results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ROWS = 32  # that a packed layout is made for; it serves any number
_WIDE = 4096  # outputs of a layer that is worth laying out: smaller ones stay in cache, and gained nothing


class Linear(nn.Linear):
    """``nn.Linear``, faster in float32 on a CPU."""

    _laid_out: Tensor | None = None

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        return _linear(x, self.weight, self.bias, self._laid_out)

    def outputs(self, x: Float[Tensor, "*shape inputs"], of: slice) -> Float[Tensor, "*shape some"]:
        """Some of the outputs, and what they cost."""
        return _linear(x, self.weight[of], None if self.bias is None else self.bias[of])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, laid_out: Tensor | None = None) -> Tensor:
    if not _served_by_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Product.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])  # type: ignore[no-any-return]
    found = torch.ops.mkldnn._linear_pointwise(x, weight if laid_out is None else laid_out, bias, "none", [], "")
    return found  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    """``x W' + b`` of ``x [T, inputs]``, and its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.ops.mkldnn._linear_pointwise(d_y, weight.T, None, "none", [], "") if of_x else None,
            d_y.T @ x if of_weight else None,
            d_y.sum(0) if of_bias else None,
        )


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Lay out the weights of a model's widest layers (the vocabulary projection) for many products.

    They must not change meanwhile. Costs one copy of them, and as long as a product or two; does nothing where oneDNN does not
    serve.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear)] if isinstance(model, nn.Module) else []
    layers = [m for m in layers if m.out_features >= _WIDE and _served_by_onednn(m.weight, m.weight)]
    layers = [] if torch.is_grad_enabled() else layers
    try:
        for layer in layers:
            layer._laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS)
        yield
    finally:
        for layer in layers:
            layer._laid_out = None


def _served_by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and x.dim() > 1
        and weight.is_contiguous()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
        and has_onednn()
    )


@cache
def has_onednn() -> bool:
    """Whether this PyTorch has oneDNN's product, and its layout of weights, for the CPU."""
    ops = torch.ops.mkldnn
    return bool(torch.backends.mkldnn.is_available()) and hasattr(ops, "_linear_pointwise") and hasattr(ops, "_reorder_linear_weight")
