"""Fused linear cross-entropy: ``sum(weight * token_loss(hidden @ W.T + b, target))`` without keeping all logits.

The forward pass computes logits a chunk at a time and turns them into their own gradient in place, so that memory does
not grow with the number of scored positions. The backward pass only scales these gradients. Softmaxes run in float32 or
wider, a cache-sized piece of a chunk at a time. Under autocast the matrix products run in its dtype.

Shapes: ``N`` scored positions, ``D`` width, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from unmask.ops.matmul import matmul

CHUNK = 1 << 25  # logits in memory at a time: 134 MB of float32
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
    chunk: int = CHUNK,
) -> FusedLoss:
    """Return ``sum(weights * token_loss)`` over the scored positions, with gradients computed on the way.

    Args:
        hidden: ``[N, D]``.
        weight, bias: of the projection onto the vocabulary, ``[V, D]`` and ``[V]`` or None.
        targets: int64 ``[N]``.
        weights: ``[N]``, weight of each position; no gradient flows to it.
        label_smoothing, z_loss: as of :func:`unmask.ops.weighting.regularised_nll`.
        chunk: logits (numbers, not rows) in memory at a time; at least one row.

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
    with torch.autocast(device, enabled=False):
        return FusedLoss(*run(hidden, weight, bias, targets, weights, (label_smoothing, z_loss, chunk, differentiate)))


class _LinearCrossEntropy(torch.autograd.Function):
    """Values and gradients in one pass over the chunks."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, options: Any
    ) -> Any:
        smoothing, z_loss, chunk, differentiate = options
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
            for part in _parts(len(logits), len(weight), PIECE if hidden.device.type == "cpu" else chunk):
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
