"""Fused linear cross-entropy: ``sum(weight * token_loss(hidden @ W.T + b, target))`` without keeping all logits.

The forward pass computes logits a chunk at a time and turns them into their own gradient in place, so that memory does
not grow with the number of scored positions. The backward pass only scales these gradients. Softmaxes run in float32 or
wider, a cache-sized piece of a chunk at a time. Under autocast the matrix products run in its dtype.

On an accelerator chunks are larger, and softmax, losses and slopes can be one compiled kernel, which reads the logits
twice and writes them once. Run one after the other, these operations move three times as many bytes.

Shapes: ``N`` scored positions, ``D`` width, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from unmask.ops.matmul import matmul

CHUNK = 1 << 25  # logits in memory at a time: 134 MB of float32
LARGE_CHUNK = 1 << 27  # the same on an accelerator: 268 MB of bfloat16
TILE = 256  # rows of a chunk on an accelerator come in whole tiles of its matrix products
PIECE = 1 << 20  # logits per softmax on a CPU, so that they stay in its cache


class FusedLoss(NamedTuple):
    """The result of :func:`linear_cross_entropy`. Only ``numerator`` has a gradient.

    Attributes:
        numerator: weighted sum of the token losses.
        token_loss: ``[N]``, the minimised loss of each token before weighting.
        nll: ``[N]``, its negative log-likelihood part, in nats.
        best: ``[N]``, the most likely token.
    """

    numerator: Float[Tensor, ""]
    token_loss: Float[Tensor, " scored"]
    nll: Float[Tensor, " scored"]
    best: Int[Tensor, " scored"]


def linear_cross_entropy(
    hidden: Float[Tensor, "scored width"],
    weight: Float[Tensor, "vocab width"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int[Tensor, " scored"],
    weights: Float[Tensor, " scored"],
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk: int | None = None,
    compiled: bool = False,
) -> FusedLoss:
    """Return ``sum(weights * token_loss)`` over the scored positions, with gradients computed on the way.

    Args:
        hidden: ``[N, D]``.
        weight, bias: of the projection onto the vocabulary, ``[V, D]`` and ``[V]`` or None.
        targets: int64 ``[N]``.
        weights: ``[N]``, weight of each position; no gradient flows to it.
        label_smoothing, z_loss: as of :func:`unmask.ops.weighting.regularised_nll`.
        chunk: logits (numbers, not rows) in memory at a time; at least one row. None = ``CHUNK``, or ``LARGE_CHUNK`` on an
            accelerator.
        compiled: on an accelerator, compute losses and slopes of a chunk by one compiled kernel.

    Returns:
        The sum and its parts. ``best`` is empty where gradients are enabled.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        narrow = torch.get_autocast_dtype(device)
        # Gradients are sums over all positions and overflow float16: use float32 in its place.
        hidden = hidden.to(torch.float32 if narrow == torch.float16 else narrow)
    differentiate = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias))
    run: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = _LinearCrossEntropy.apply
    if chunk is None:
        chunk = CHUNK if device == "cpu" else _whole_tiles(LARGE_CHUNK, len(weight))
    options = (label_smoothing, z_loss, chunk, differentiate, compiled and differentiate and device != "cpu")
    with torch.autocast(device, enabled=False):
        return FusedLoss(*run(hidden, weight, bias, targets, weights, options))


class _LinearCrossEntropy(torch.autograd.Function):
    """Values and gradients in one pass over the chunks."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, options: Any
    ) -> Any:
        smoothing, z_loss, chunk, differentiate, compiled = options
        wide = torch.promote_types(hidden.dtype, torch.float32)
        matrix = weight.to(hidden.dtype)
        weights = weights.to(wide)
        token_loss, nll = (hidden.new_empty(len(hidden), dtype=wide) for _ in range(2))
        best = targets.new_empty(0 if differentiate else len(targets))
        d_hidden = torch.empty_like(hidden) if differentiate else None
        d_weight = torch.zeros_like(weight) if differentiate and not len(hidden) else None
        d_bias = bias.new_zeros(bias.shape, dtype=wide) if differentiate and bias is not None else None
        for at in _parts(len(hidden), len(weight), chunk):
            logits = matmul(hidden[at], matrix, None if bias is None else bias.to(hidden.dtype))
            if compiled:
                token_loss[at], nll[at] = _compiled_slope(smoothing, z_loss)(logits, targets[at])
                if d_bias is not None:
                    d_bias += weights[at].to(logits.dtype) @ logits
            largest = PIECE if hidden.device.type == "cpu" else chunk
            for part in () if compiled else _parts(len(logits), len(weight), largest):
                here = slice(at.start + part.start, at.start + part.stop)
                if d_hidden is None:
                    best[here] = logits[part].argmax(-1)
                token_loss[here], nll[here], slope = _cost(
                    logits[part], targets[here], smoothing, z_loss, differentiate
                )
                if d_bias is not None and slope is not None:
                    d_bias += weights[here] @ slope
            if d_hidden is None:
                continue
            weighted = hidden[at] * weights[at, None].to(hidden.dtype)
            d_hidden[at] = (logits @ matrix) * weights[at, None].to(hidden.dtype)
            if d_weight is None:
                d_weight = (logits.T @ weighted).to(weight.dtype)
            elif d_weight.dtype == logits.dtype:
                d_weight.addmm_(logits.T, weighted)
            else:
                d_weight += logits.T @ weighted
        ctx.save_for_backward(d_hidden, d_weight, None if bias is None or d_bias is None else d_bias.to(bias.dtype))
        ctx.mark_non_differentiable(token_loss, nll, best)
        return (token_loss * weights).sum(), token_loss, nll, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> Any:
        # The usual slope is exactly 1: skip the scaling then. On an accelerator, reading the slope would force a sync.
        unscaled = slope.device.type == "cpu" and float(slope) == 1.0
        gradients = [d if d is None or unscaled else d * slope.to(d.dtype) for d in ctx.saved_tensors]
        return *gradients, None, None, None


def _parts(rows: int, columns: int, largest: int) -> Iterator[slice]:
    """Yield slices of rows with at most ``largest`` numbers each, or one row."""
    step = max(1, largest // columns)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def _whole_tiles(largest: int, columns: int) -> int:
    """Return the number of logits of whole tiles of rows, at most ``largest``; at least one tile."""
    return max(1, largest // columns // TILE) * TILE * columns


@cache
def _compiled_slope(smoothing: float, z_loss: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return :func:`slope_in_place` with these constants as one program for any number of positions."""

    def slope(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return slope_in_place(logits, targets, smoothing, z_loss)

    program = torch.compile(slope, fullgraph=True)

    def run(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        for part in (logits, targets):
            torch._dynamo.maybe_mark_dynamic(part, 0)
        return program(logits, targets)

    return run


def slope_in_place(logits: Tensor, targets: Tensor, smoothing: float, z_loss: float) -> tuple[Tensor, Tensor]:
    """Return token loss and negative log-likelihood of each position, and replace the logits by the gradient.

    The same numbers as :func:`_cost`, in a form that compiles to one reduction and one elementwise pass.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_z = wide.logsumexp(-1)
    nll = log_z - wide.gather(1, targets[:, None])[:, 0]
    token_loss = nll
    if smoothing:
        token_loss = (1 - smoothing) * nll + smoothing * (log_z - wide.mean(-1))
    if z_loss:
        token_loss = token_loss + z_loss * log_z**2
    slope = (wide - log_z[:, None]).exp()
    if z_loss:
        slope = slope * (1 + 2 * z_loss * log_z)[:, None]
    if smoothing:
        slope = slope - smoothing / logits.shape[1]
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    logits.copy_(torch.where(is_target, slope - (1 - smoothing), slope))
    return token_loss, nll


def _cost(
    logits: Tensor, targets: Tensor, smoothing: float, z_loss: float, differentiate: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return token loss and negative log-likelihood of each position, and the gradient of the loss w.r.t. the logits.

    Write the gradient in place of the logits, and also return it in float32, before the cast. One softmax serves all
    three: its largest probability, which is never small, determines the log-normaliser.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    place = targets[:, None]
    largest = logits.amax(-1).to(wide)
    behind = largest - logits.gather(1, place)[:, 0].to(wide)
    mean = logits.mean(-1, dtype=wide) if smoothing else None
    p = torch.softmax(logits, -1, out=logits) if wide == logits.dtype else torch.softmax(logits, -1, dtype=wide)
    surprise = p.amax(-1).log()  # of the most likely token: the largest logit minus the log-normaliser
    nll, log_z = behind - surprise, largest - surprise
    token_loss = nll if mean is None else (1 - smoothing) * nll + smoothing * (log_z - mean)
    if z_loss:
        token_loss = token_loss + z_loss * log_z**2
    if not differentiate:
        return token_loss, nll, None
    if z_loss:
        p *= (1 + 2 * z_loss * log_z)[:, None]
    if smoothing:
        p -= smoothing / p.shape[1]
    p.scatter_add_(1, place, p.new_full(place.shape, smoothing - 1))
    if p.dtype != logits.dtype:
        logits.copy_(p)
    return token_loss, nll, p
