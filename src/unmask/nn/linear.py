"""``nn.Linear`` with oneDNN kernels for the forward pass and the input gradient (fp32, CPU; ``unmask.ops.matmul``).

The weight gradient uses BLAS, which is equally fast. With weights in oneDNN's own layout products are another 1.1 to 2
times as fast: :func:`prepack_weights` prepares it where it pays, while weights are frozen (inference only). Parameters
and their names are those of ``nn.Linear``; results agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from unmask.ops.matmul import matmul, uses_onednn

_ROWS = 32  # number of rows the layout is optimised for; any number works
_WIDE = 4096  # smallest number of outputs to prepack: smaller layers stay in cache, and gained nothing


class Linear(nn.Linear):
    """``nn.Linear``, faster in float32 on a CPU."""

    _prepacked: Tensor | None = None

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        """Return ``x W' + b``."""
        return _linear(x, self.weight, self.bias, self._prepacked)

    def linear_of(
        self, recomputed: Callable[..., Tensor], x: Float[Tensor, "*shape any"], *parameters: Tensor
    ) -> Float[Tensor, "*shape outputs"]:
        """Return ``self(recomputed(x, *parameters))``, with a norm or an activation as ``recomputed``.

        With oneDNN products, ``recomputed`` runs again in the backward pass and its result is not stored. It is cheap
        beside the product, and its result would be a third of the memory of a block.
        """
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or not uses_onednn(x, self.weight):
            out: Tensor = self(recomputed(x, *parameters))
            return out
        linear_of: Callable[..., Tensor] = _LinearOf.apply
        return linear_of(recomputed, x, self.weight, self.bias, *parameters)

    def rows_of(self, x: Float[Tensor, "*shape inputs"], rows: slice) -> Float[Tensor, "*shape some"]:
        """Return some of the outputs, computed alone."""
        return _linear(x, self.weight[rows], None if self.bias is None else self.bias[rows])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, prepacked: Tensor | None = None) -> Tensor:
    if not uses_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        product: Callable[..., Tensor] = _Product.apply
        return torch.unflatten(product(x.flatten(0, -2), weight, bias), 0, x.shape[:-1])
    if prepacked is None or torch.compiler.is_compiling():  # compiled code outlives the prepacked weight
        prepacked = weight
    return matmul(x, prepacked, bias)


class _Product(torch.autograd.Function):
    """``x W' + b`` of ``x [T, inputs]``, and its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return matmul(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _derivatives(x, weight, d_y, *ctx.needs_input_grad)


class _LinearOf(torch.autograd.Function):
    """``recomputed(x, *parameters) W' + b`` of ``x [..., inputs]``, with activation checkpointing of ``recomputed``."""

    @staticmethod
    def forward(
        ctx: Any, recomputed: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        ctx.recomputed = recomputed
        ctx.save_for_backward(x, weight, *parameters)
        return matmul(recomputed(x, *parameters), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = (saved.detach() for saved in ctx.saved_tensors)
        _, of_x, of_weight, of_bias, *of_parameters = ctx.needs_input_grad
        sources = [
            source.requires_grad_(of) for source, of in zip((x, *parameters), (of_x, *of_parameters), strict=True)
        ]
        with torch.enable_grad():
            z = ctx.recomputed(*sources)
        d_z, d_weight, d_bias = _derivatives(z.detach(), weight, d_y, z.requires_grad, of_weight, of_bias)
        gradients = iter(
            torch.autograd.grad(z, [source for source in sources if source.requires_grad], d_z)
            if z.requires_grad
            else ()
        )
        d_x, *d_parameters = (next(gradients) if source.requires_grad else None for source in sources)
        return None, d_x, d_weight, d_bias, *d_parameters


def _derivatives(
    x: Tensor, weight: Tensor, d_y: Tensor, of_x: bool, of_weight: bool, of_bias: bool
) -> tuple[Tensor | None, ...]:
    """Return the derivatives of ``x W' + b`` by its three inputs."""
    return (
        matmul(d_y, weight.T) if of_x else None,
        d_y.flatten(0, -2).T @ x.flatten(0, -2) if of_weight else None,
        d_y.flatten(0, -2).sum(0) if of_bias else None,
    )


@contextmanager
def prepack_weights(model: object) -> Iterator[None]:
    """Prepack the weights of a model's widest layers (the vocabulary projection) for repeated products.

    The weights must not change in the context. Prepacking costs one copy of them and the time of a product or two;
    without oneDNN it does nothing.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear)] if isinstance(model, nn.Module) else []
    layers = [m for m in layers if m.out_features >= _WIDE and uses_onednn(m.weight, m.weight) and m._prepacked is None]
    layers = [] if torch.is_grad_enabled() else layers
    try:
        for layer in layers:
            layer._prepacked = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS)
        yield
    finally:
        for layer in layers:
            layer._prepacked = None
