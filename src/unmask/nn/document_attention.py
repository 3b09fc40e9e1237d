"""Rotary attention of documents on a CPU, as one differentiable operator.

Documents lie end to end, sorted by length. The operator rotates queries and keys and computes attention within each
document. Its backward pass writes the one gradient of the fused query-key-value product, without slicing, padding or
concatenation. ``torch.compile`` sees a single call, whatever the lengths.

    documents of up to 512 tokens     explicit matrix products, a cache-sized piece at a time; probabilities are kept
    bf16, up to 1,024 tokens          the same, with probabilities recomputed in the backward pass
    otherwise                         SDPA's flash kernel

In bf16 the flash kernel multiplies in fp32, and explicit products are more than twice as fast. In fp32 both are equally
fast, but kept probabilities save a fifth of the work: a twentieth of a training step, for half as many numbers again as
a block stores anyway. Beyond 512 tokens they would soon dominate memory. As usual under autocast, scores are rounded to
bf16 before the softmax.

Shapes: ``T`` tokens, ``H`` heads of ``C`` channels, of which ``2 half`` are rotated; ``groups [G, 2]`` holds the count
and the length of documents, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

LONGEST_KEPT = 512
LONGEST_BY_PRODUCTS = 1024
PIECE = 2**20  # bytes of scores per thread and piece, which stay in cache between product and softmax


def spans(groups: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Yield the token range of each group, with the count and the length of its documents."""
    start = 0
    for count, length in groups.tolist():
        yield slice(start, start + count * length), count, length
        start += count * length


def uses_explicit_matmul(dtype: torch.dtype, length: int) -> bool:
    """Return whether attention within documents of this length runs as explicit matrix products."""
    return length <= (LONGEST_BY_PRODUCTS if dtype == torch.bfloat16 else LONGEST_KEPT)


def _room_to_keep(groups: Tensor, tokens: int, heads: int) -> int:
    """Return how many probabilities are kept; compiled code cannot read lengths and reserves the largest possible
    number.
    """
    if torch.compiler.is_compiling():
        return tokens * heads * LONGEST_KEPT
    return heads * sum(count * length**2 for _, count, length in spans(groups) if length <= LONGEST_KEPT)


def _kept(kept: Tensor, groups: Tensor, heads: int) -> Iterator[Tensor | None]:
    """Yield the kept probabilities ``[documents H, length, length]`` of each group, or None where they are not kept."""
    start = 0
    for _, count, length in spans(groups):
        size = count * heads * length**2
        if length > LONGEST_KEPT or not len(kept):
            yield None
            continue
        yield kept[start : start + size].view(count * heads, length, length)
        start += size


@torch.library.custom_op("unmask::attend_documents", mutates_args=(), device_types="cpu", schema="(Tensor qkv, Tensor cos, Tensor sin, Tensor groups, SymInt room) -> (Tensor, Tensor, Tensor, Tensor)")  # fmt: skip
def _attend(qkv: Tensor, cos: Tensor, sin: Tensor, groups: Tensor, room: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tokens, _, heads, channels = qkv.shape
    cos, sin = cos.to(qkv.dtype), sin.to(qkv.dtype)
    out = qkv.new_empty(tokens, heads, channels)
    turned = qkv.new_empty(3, tokens * heads * channels)  # group by group: (3, documents, H, length, C)
    log_sums = qkv.new_empty(tokens * heads, dtype=torch.promote_types(qkv.dtype, torch.float32))
    kept = qkv.new_empty(room)
    for (where, count, length), place in zip(spans(groups), _kept(kept, groups, heads), strict=True):
        q, k, v = group = _group(turned, where, count, length, heads, channels)
        rows = qkv[where].view(count, length, 3, heads, channels).permute(2, 0, 3, 1, 4)
        _turn(group, rows, *_angles(cos, sin, where, count, length))
        target = out[where].view(count, length, heads, channels).transpose(1, 2)
        if uses_explicit_matmul(qkv.dtype, length):
            _products(q, k, v, target, place)
        else:
            attended, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
            target.copy_(attended)
            log_sums[where.start * heads : where.stop * heads].view(count, heads, length).copy_(log_sum)
    return out, turned, log_sums, kept


@torch.library.custom_op("unmask::attend_documents_backward", mutates_args=(), device_types="cpu", schema="(Tensor d_out, Tensor out, Tensor turned, Tensor log_sums, Tensor kept, Tensor cos, Tensor sin, Tensor groups) -> Tensor")  # fmt: skip
def _attend_backward(
    d_out: Tensor, out: Tensor, turned: Tensor, log_sums: Tensor, kept: Tensor, cos: Tensor, sin: Tensor, groups: Tensor
) -> Tensor:
    tokens, heads, channels = out.shape
    cos, sin = cos.to(out.dtype), sin.to(out.dtype)
    d_out = d_out.contiguous()
    d_qkv = out.new_empty(tokens, 3, heads, channels)
    for (where, count, length), place in zip(spans(groups), _kept(kept, groups, heads), strict=True):
        q, k, v = _group(turned, where, count, length, heads, channels)
        d_rows = d_out[where].view(count, length, heads, channels).transpose(1, 2)
        if uses_explicit_matmul(out.dtype, length):
            d_group = torch.empty_like(turned[:, : q.numel()]).view(3, *q.shape)
            _products_backward(d_rows.contiguous(), q, k, v, d_group, place)
        else:
            rows = out[where].view(count, length, heads, channels).transpose(1, 2)
            log_sum = log_sums[where.start * heads : where.stop * heads].view(count, heads, length)
            d_group = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                d_rows, q, k, v, rows, log_sum, 0.0, False
            )
        cos_rows, sin_rows = _angles(cos, sin, where, count, length)
        _turn(d_qkv[where].view(count, length, 3, heads, channels).permute(2, 0, 3, 1, 4), d_group, cos_rows, -sin_rows)
    return d_qkv


def _group(turned: Tensor, where: slice, count: int, length: int, heads: int, channels: int) -> Tensor:
    size = heads * channels
    return turned[:, where.start * size : where.stop * size].view(3, count, heads, length, channels)


def _angles(cos: Tensor, sin: Tensor, where: slice, count: int, length: int) -> tuple[Tensor, Tensor]:
    return cos[where].view(count, 1, length, -1), sin[where].view(count, 1, length, -1)


def _turn(into: Tensor, rows: Tensor | tuple[Tensor, ...], cos: Tensor, sin: Tensor) -> None:
    """Write ``(q, k, v)`` ``[3, documents, H, length, C]`` into another layout, with queries and keys rotated."""
    half = cos.shape[-1]
    for turned, x in zip(into[:2], rows[:2], strict=True):
        a, b = x[..., :half], x[..., half : 2 * half]
        torch.mul(a, cos, out=turned[..., :half]).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=turned[..., half : 2 * half]).addcmul_(a, sin)
        if 2 * half < x.shape[-1]:
            turned[..., 2 * half :].copy_(x[..., 2 * half :])
    into[2].copy_(rows[2])


def _pieces(q: Tensor) -> Iterator[slice]:
    """Yield slices of the leading dimension of ``q [n, length, C]`` whose scores fit into the cache."""
    step = max(1, PIECE * torch.get_num_threads() // (q.element_size() * q.shape[1] ** 2))
    for start in range(0, len(q), step):
        yield slice(start, start + step)


def _probabilities(q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
    """Return attention probabilities of ``[n, length, C]``, written to ``kept`` unless it is None."""
    scores = q.new_empty(len(q), q.shape[1], q.shape[1]) if kept is None else kept
    torch.baddbmm(scores, q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5, out=scores)
    return torch.softmax(scores, -1, out=scores)


def _products(q: Tensor, k: Tensor, v: Tensor, out: Tensor, kept: Tensor | None) -> None:
    """Write attention of ``[documents, H, length, C]`` to ``out``, and probabilities to ``kept``."""
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    attended = torch.empty_like(q)
    for piece in _pieces(q):
        torch.bmm(
            _probabilities(q[piece], k[piece], None if kept is None else kept[piece]), v[piece], out=attended[piece]
        )
    out.copy_(attended.view(out.shape))


def _products_backward(d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, d_group: Tensor, kept: Tensor | None) -> None:
    """Write the gradients of queries, keys and values to ``d_group [3, documents, H, length, C]``.

    Recompute probabilities that were not kept.
    """
    d_out, q, k, v = (x.flatten(0, 1) for x in (d_out, q, k, v))
    dq, dk, dv = d_group.flatten(1, 2)
    scale = q.shape[-1] ** -0.5
    for at in _pieces(q):
        p = _probabilities(q[at], k[at], None) if kept is None else kept[at]
        torch.bmm(p.transpose(1, 2), d_out[at], out=dv[at])
        d_scores = torch._softmax_backward_data(torch.bmm(d_out[at], v[at].transpose(1, 2)), p, -1, p.dtype)
        torch.baddbmm(dq[at], d_scores, k[at], beta=0, alpha=scale, out=dq[at])
        torch.baddbmm(dk[at], d_scores.transpose(1, 2), q[at], beta=0, alpha=scale, out=dk[at])


@_attend.register_fake
def _(qkv: Tensor, cos: Tensor, sin: Tensor, groups: Tensor, room: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tokens, _, heads, channels = qkv.shape
    log_sums = qkv.new_empty(tokens * heads, dtype=torch.promote_types(qkv.dtype, torch.float32))
    kept = qkv.new_empty(room)
    return qkv.new_empty(tokens, heads, channels), qkv.new_empty(3, tokens * heads * channels), log_sums, kept


@_attend_backward.register_fake
def _(
    d_out: Tensor, out: Tensor, turned: Tensor, log_sums: Tensor, kept: Tensor, cos: Tensor, sin: Tensor, groups: Tensor
) -> Tensor:
    return out.new_empty(out.shape[0], 3, *out.shape[1:])


class _Attend(torch.autograd.Function):
    """The two operators as one autograd function.

    With ``register_autograd`` torch would materialise zero gradients for the unused outputs.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, groups: Tensor, room: int) -> Tensor:
        outputs: tuple[Tensor, Tensor, Tensor, Tensor] = _attend(qkv, cos, sin, groups, room)
        ctx.save_for_backward(*outputs, cos, sin, groups)
        return outputs[0]

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _attend_backward(d_out, *ctx.saved_tensors), None, None, None, None


def attend_documents(qkv: Tensor, cos: Tensor, sin: Tensor, groups: Tensor) -> Tensor:
    """Rotate queries and keys, and compute attention within each document.

    Args:
        qkv: ``[T, 3, H, C]`` on the CPU.
        cos, sin: ``[T, half]``, of each token's angles.
        groups: int64 ``[G, 2]``, count and length of documents, which contain the ``T`` tokens in order.

    Returns:
        ``[T, H, C]``.
    """
    keep = torch.is_grad_enabled() and qkv.requires_grad
    attend: Callable[..., Tensor] = _Attend.apply
    return attend(qkv, cos, sin, groups, _room_to_keep(groups, len(qkv), qkv.shape[2]) if keep else 0)
