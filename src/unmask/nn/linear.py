"""A linear layer that takes the fastest matrix product when nobody needs its gradient.

On a CPU ``nn.Linear`` in float32 goes to the BLAS that PyTorch was built with. oneDNN's product, which compiled models use, was
1.1 to 3 times as fast on the machine we measured, most with few rows against a large vocabulary, which is what decoding asks
for; 1.1 to 2 times faster still with the weights laid out for it beforehand, which :func:`packed` does where it pays, for as long as
they stand still. Parameters, their names and training are those of ``nn.Linear``; results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_ROWS = 32  # that a packed layout is made for; it serves any number
_WIDE = 4096  # outputs of a layer that is worth laying out: smaller ones stay in cache, and gained nothing


class Linear(nn.Linear):
    """``nn.Linear``, faster on a CPU without gradients."""

    _laid_out: Tensor | None = None

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        if not _wants_onednn(x, self.weight):
            return super().forward(x)
        weight = self.weight if self._laid_out is None else self._laid_out
        return torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, "none", [], "")


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Lay out the weights of a model's widest layers (the vocabulary projection) for many products.

    They must not change meanwhile. Costs one copy of them, and as long as a product or two; does nothing where oneDNN does not
    serve.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear)] if isinstance(model, nn.Module) else []
    layers = [m for m in layers if m.out_features >= _WIDE and _wants_onednn(m.weight, m.weight)]
    try:
        for layer in layers:
            layer._laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS)
        yield
    finally:
        for layer in layers:
            layer._laid_out = None


def _wants_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and weight.is_contiguous()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
        and _has_onednn()
    )


@cache
def _has_onednn() -> bool:
    ops = torch.ops.mkldnn
    return bool(torch.backends.mkldnn.is_available()) and hasattr(ops, "_linear_pointwise") and hasattr(ops, "_reorder_linear_weight")
