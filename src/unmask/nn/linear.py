"""A linear layer that takes the fastest matrix product (``unmask.ops.matmul``), there and back to the input.

The gradient of the weight is BLAS's, which does as well. oneDNN is 1.1 to 2 times faster still with the weights laid out for it
beforehand, which :func:`packed` does where it pays, for as long as they stand still and nobody needs a gradient. Parameters and
their names are those of ``nn.Linear``; results agree to rounding.
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

_ROWS = 32  # that a packed layout is made for; it serves any number
_WIDE = 4096  # outputs of a layer that is worth laying out: smaller ones stay in cache, and gained nothing


class Linear(nn.Linear):
    """``nn.Linear``, faster in float32 on a CPU."""

    _laid_out: Tensor | None = None

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        return _linear(x, self.weight, self.bias, self._laid_out)

    def linear_of(
        self, made: Callable[..., Tensor], x: Float[Tensor, "*shape any"], *parameters: Tensor
    ) -> Float[Tensor, "*shape outputs"]:
        """The layer of ``made(x, *parameters)``: of a norm, or of an activation.

        Where oneDNN serves, ``made`` is run once more on the way back rather than its result kept: cheap beside the product, and
        it would be a third of what a block keeps.
        """
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or not uses_onednn(x, self.weight):
            return self(made(x, *parameters))
        return _LinearOf.apply(made, x, self.weight, self.bias, *parameters)  # type: ignore[no-any-return]

    def rows_of(self, x: Float[Tensor, "*shape inputs"], of: slice) -> Float[Tensor, "*shape some"]:
        """Some of the outputs, and what they cost."""
        return _linear(x, self.weight[of], None if self.bias is None else self.bias[of])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, laid_out: Tensor | None = None) -> Tensor:
    if not uses_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Product.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])  # type: ignore[no-any-return]
    if laid_out is None or torch.compiler.is_compiling():  # a program outlives a layout
        laid_out = weight
    return matmul(x, laid_out, bias)


class _Product(torch.autograd.Function):
    """``x W' + b`` of ``x [T, inputs]``, and its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return matmul(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        return _derivatives(x, weight, d_y, *ctx.needs_input_grad)


class _LinearOf(torch.autograd.Function):
    """``made(x, *parameters) W' + b`` of ``x [..., inputs]``; what is made is made again on the way back."""

    @staticmethod
    def forward(
        ctx: Any, made: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor
    ) -> Tensor:  # type: ignore[override]
        ctx.made = made
        ctx.save_for_backward(x, weight, *parameters)
        return matmul(made(x, *parameters), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, *parameters = (saved.detach() for saved in ctx.saved_tensors)
        _, of_x, of_weight, of_bias, *of_parameters = ctx.needs_input_grad
        wanted = [
            source.requires_grad_(of) for source, of in zip((x, *parameters), (of_x, *of_parameters), strict=True)
        ]
        with torch.enable_grad():
            z = ctx.made(*wanted)
        d_z, d_weight, d_bias = _derivatives(z.detach(), weight, d_y, z.requires_grad, of_weight, of_bias)
        found = iter(
            torch.autograd.grad(z, [source for source in wanted if source.requires_grad], d_z)
            if z.requires_grad
            else ()
        )
        d_x, *d_parameters = (next(found) if source.requires_grad else None for source in wanted)
        return None, d_x, d_weight, d_bias, *d_parameters


def _derivatives(
    x: Tensor, weight: Tensor, d_y: Tensor, of_x: bool, of_weight: bool, of_bias: bool
) -> tuple[Tensor | None, ...]:
    """Of ``x W' + b``, by its three inputs."""
    return (
        matmul(d_y, weight.T) if of_x else None,
        d_y.flatten(0, -2).T @ x.flatten(0, -2) if of_weight else None,
        d_y.flatten(0, -2).sum(0) if of_bias else None,
    )


@contextmanager
def prepack_weights(model: Any) -> Iterator[None]:
    """Lay out the weights of a model's widest layers (the vocabulary projection) for many products.

    They must not change meanwhile. Costs one copy of them, and as long as a product or two; does nothing where oneDNN does not
    serve.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear)] if isinstance(model, nn.Module) else []
    layers = [m for m in layers if m.out_features >= _WIDE and uses_onednn(m.weight, m.weight)]
    layers = [] if torch.is_grad_enabled() else layers
    try:
        for layer in layers:
            layer._laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS)
        yield
    finally:
        for layer in layers:
            layer._laid_out = None
