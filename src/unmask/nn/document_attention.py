"""Rotary attention of whole documents on a CPU, as one differentiable operator.

Documents lie end to end, those of one length side by side. The operator turns queries and keys, attends within each document,
and its derivative does both backwards into the one gradient that the query-key-value product wants: nothing is sliced, padded
or concatenated on the way. ``torch.compile`` sees a single call, whatever the lengths.

    documents of up to 512 tokens     scores, softmax and values as matrix products, a cache-sized piece at a time; probabilities are kept
    bf16, up to 1,024 tokens          the same, probabilities made anew on the way back
    otherwise                         SDPA's flash kernel

In bf16 the kernel multiplies in fp32 and products are more than twice as fast; in fp32 they are level, but for the fifth of the work that
kept probabilities save: a twentieth of a training step, for half as many numbers again as a block keeps anyway. Beyond 512 tokens
they would soon be most of the memory. As everywhere under autocast, the products' scores are rounded to bf16 before the softmax.

Shapes: ``T`` tokens, ``H`` heads of ``C`` channels, of which ``2 half`` are rotated; ``groups [G, 2]`` holds the number and the
length of documents, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

LONGEST_KEPT = 512
LONGEST_BY_PRODUCTS = 1024
PIECE = (
    2**20
)  # bytes of scores worked on at a time, for each thread: they stay in its cache between product and softmax


def spans(groups: Tensor) -> Iterator[tuple[slice, int, int]]:
    """The tokens of each group, with the number and the length of its documents."""
    start = 0
    for count, length in groups.tolist():
        yield slice(start, start + count * length), count, length
        start += count * length


def uses_explicit_matmul(dtype: torch.dtype, length: int) -> bool:
    """Whether documents of this length are attended by matrix products."""
    return length <= (LONGEST_BY_PRODUCTS if dtype == torch.bfloat16 else LONGEST_KEPT)


def _room_to_keep(groups: Tensor, tokens: int, heads: int) -> int:
    """How many probabilities are kept. (A compiled program may not look at lengths: it takes room for any.)"""
    if torch.compiler.is_compiling():
        return tokens * heads * LONGEST_KEPT
    return heads * sum(count * length**2 for _, count, length in spans(groups) if length <= LONGEST_KEPT)


def _kept(kept: Tensor, groups: Tensor, heads: int) -> Iterator[Tensor | None]:
    """For each group, the probabilities ``[documents H, length, length]`` of its documents; None where they are not kept."""
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
        wanted = out[where].view(count, length, heads, channels).transpose(1, 2)
        if uses_explicit_matmul(qkv.dtype, length):
            _products(q, k, v, wanted, place)
        else:
            found, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
            wanted.copy_(found)
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
    """Write ``(q, k, v)`` ``[3, documents, H, length, C]`` into another layout, queries and keys rotated."""
    half = cos.shape[-1]
    for turned, x in zip(into[:2], rows[:2], strict=True):
        a, b = x[..., :half], x[..., half : 2 * half]
        torch.mul(a, cos, out=turned[..., :half]).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=turned[..., half : 2 * half]).addcmul_(a, sin)
        if 2 * half < x.shape[-1]:
            turned[..., 2 * half :].copy_(x[..., 2 * half :])
    into[2].copy_(rows[2])


def _pieces(q: Tensor) -> Iterator[slice]:
    """Slices over the leading dimension of ``q [n, length, C]`` whose scores fit into a cache."""
    step = max(1, PIECE * torch.get_num_threads() // (q.element_size() * q.shape[1] ** 2))
    for start in range(0, len(q), step):
        yield slice(start, start + step)


def _probabilities(q: Tensor, k: Tensor, kept: Tensor | None) -> Tensor:
    """Of ``[n, length, C]``, in the place where they are kept, if they are."""
    scores = q.new_empty(len(q), q.shape[1], q.shape[1]) if kept is None else kept
    torch.baddbmm(scores, q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5, out=scores)
    return torch.softmax(scores, -1, out=scores)


def _products(q: Tensor, k: Tensor, v: Tensor, out: Tensor, kept: Tensor | None) -> None:
    """Attention of ``[documents, H, length, C]``, into ``out``; probabilities into ``kept``."""
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    found = torch.empty_like(q)
    for piece in _pieces(q):
        torch.bmm(_probabilities(q[piece], k[piece], None if kept is None else kept[piece]), v[piece], out=found[piece])
    out.copy_(found.view(out.shape))


def _products_backward(d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, d_group: Tensor, kept: Tensor | None) -> None:
    """The gradients of queries, keys and values, into ``d_group [3, documents, H, length, C]``; probabilities are made anew if not kept."""
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
    """The two operators as a function and its derivative. (Registered as such, torch would fill gradients of all outputs with zeros.)"""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, groups: Tensor, room: int) -> Tensor:  # type: ignore[override]
        out, *remembered = _attend(qkv, cos, sin, groups, room)
        ctx.save_for_backward(out, *remembered, cos, sin, groups)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        return _attend_backward(d_out, *ctx.saved_tensors), None, None, None, None


def attend_documents(qkv: Tensor, cos: Tensor, sin: Tensor, groups: Tensor) -> Tensor:
    """Rotate queries and keys, and attend within each document.

    Args:
        qkv: ``[T, 3, H, C]`` on the CPU.
        cos, sin: ``[T, half]``, of each token's angles.
        groups: int64 ``[G, 2]``, number and length of documents; they hold the ``T`` tokens in order.

    Returns:
        ``[T, H, C]``.
    """
    keep = torch.is_grad_enabled() and qkv.requires_grad
    return _Attend.apply(qkv, cos, sin, groups, _room_to_keep(groups, len(qkv), qkv.shape[2]) if keep else 0)  # type: ignore[no-any-return]
