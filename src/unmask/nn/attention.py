"""Attention over flat tokens, and the plans that define who attends to whom.

The encoder runs on tokens ``[T, ...]`` laid end to end. A plan, built once per batch and used by every layer, describes
their rows:

    DensePlan      B rows of L tokens, optionally with a boolean mask; SDPA
    DocumentPlan   documents of any length, sorted by length; no padding and no masks (``unmask.nn.document_attention``)
    FlexPlan       B rows of L tokens under a FlexAttention BlockMask
    PackedPlan     documents of any length, in the order of the batch; CUDA's flash kernel (``unmask.nn.packed_attention``)

On a CPU, padding is dropped, documents are sorted by length, and attention runs for one length at a time, which was
measured to be faster than any mask. On CUDA in bf16 or fp16 padding is dropped too, and one flash kernel runs over all
documents. Elsewhere on an accelerator, where a loop would stall the device, rows stay dense under a mask. So they do
under ``torch.compile`` of the network, and in block-causal attention (each token attends to its own block and to all
earlier ones).

Shapes: q, k, v ``[T, H, C]``.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unmask.nn.document_attention import attend_documents, spans, uses_explicit_matmul
from unmask.nn.packed_attention import documents_in_order, packed_documents, runs_variable_length
from unmask.nn.rotary import Angles, rotate
from unmask.ops.segments import document_mask

Heads = Float[Tensor, "tokens heads channels"]
Reads = Float[Tensor, "read heads channels"]


@runtime_checkable
class AttentionPlan(Protocol):
    """Who attends to whom, for one batch."""

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        """Return the attention output ``[T, H, C]`` of rotated queries and keys."""
        ...


@dataclass(frozen=True)
class DensePlan:
    """``B`` rows of ``L`` tokens. ``mask`` is bool ``[B, 1, 1 or L, L]``, True = may be attended, or None."""

    batch: int
    seq: int
    mask: Bool[Tensor, "batch 1 query seq"] | None = None
    only_flash: bool = False

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        q_rows, k_rows, v_rows = (x.view(self.batch, self.seq, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if self.only_flash else contextlib.nullcontext():
            out = F.scaled_dot_product_attention(q_rows, k_rows, v_rows, attn_mask=self.mask, dropout_p=dropout)
        return out.transpose(1, 2).reshape(q.shape)


@dataclass(frozen=True)
class DocumentPlan:
    """Documents laid end to end, sorted by length; ``groups [G, 2]`` holds count and length of the documents of each
    length.
    """

    groups: Int[Tensor, "groups 2"]

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        outs = [v[:0]]
        for where, count, length in spans(self.groups):
            q_rows, k_rows, v_rows = (x[where].view(count, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
            out = F.scaled_dot_product_attention(q_rows, k_rows, v_rows, dropout_p=dropout)
            outs.append(out.transpose(1, 2).flatten(0, 1))
        return torch.cat(outs)

    def at(self, read: Int[Tensor, " read"], q: Reads, k: Heads, v: Heads, dropout: float) -> Reads:
        """Return the attention of the queries ``q [N, H, C]`` of tokens ``read`` (ascending) to all keys of their
        documents.
        """
        outs = [v[:0]]
        bounds = torch.tensor([0] + [where.stop for where, _, _ in spans(self.groups)])
        first = torch.searchsorted(read, bounds).tolist()
        for (where, count, length), start, stop in zip(spans(self.groups), first, first[1:], strict=False):
            if start == stop:
                continue
            document = (read[start:stop] - where.start) // length
            longest = int(document.bincount().max())
            # Queries of one document are consecutive, so their slots are distinct.
            slot = document * longest + torch.arange(stop - start) % longest
            q_rows = q.new_zeros(count * longest, *q.shape[1:]).index_copy(0, slot, q[start:stop])
            q_rows, k_rows, v_rows = (
                x.view(count, -1, *x.shape[1:]).transpose(1, 2) for x in (q_rows, k[where], v[where])
            )
            if not torch.is_grad_enabled():
                # As the product makes them for several documents: one alone then rounds as it does in company.
                q_rows, k_rows, v_rows = q_rows.contiguous(), k_rows.contiguous(), v_rows.contiguous()
            if dropout or not uses_explicit_matmul(q.dtype, length):
                out = F.scaled_dot_product_attention(q_rows, k_rows, v_rows, dropout_p=dropout)
            else:
                out = torch.softmax(q_rows * q.shape[-1] ** -0.5 @ k_rows.transpose(-1, -2), -1) @ v_rows
            outs.append(out.transpose(1, 2).flatten(0, 1)[slot])
        return torch.cat(outs)


@dataclass(frozen=True)
class FlexPlan:
    """``B`` rows of ``L`` tokens under a BlockMask (compiled on CUDA; forward only on a CPU)."""

    batch: int
    seq: int
    block_mask: Any

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        if dropout:
            raise ValueError("FlexAttention has no attention dropout: set dropout=0, or use_flex_attn=False.")
        rows = [x.view(self.batch, self.seq, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)]
        out: Tensor = _flex_attention(q.device.type)(*rows, block_mask=self.block_mask)
        return out.transpose(1, 2).reshape(q.shape)

    def dense(self) -> DensePlan:
        """Return the same attention under a dense mask, for what FlexAttention does not support."""
        from torch.nn.attention.flex_attention import create_mask

        mask = self.block_mask
        batch, heads = mask.shape[:2]
        return DensePlan(
            self.batch,
            self.seq,
            create_mask(mask.mask_mod, batch, heads, self.seq, self.seq, device=str(mask.kv_num_blocks.device)),
        )


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


_NO_FLEX = ("cpu", "mps")  # devices on which per-document attention or dense masks are faster, or the only choice
_compiled_flex: Any = None


def _flex_attention(device_type: str) -> Any:
    global _compiled_flex
    from torch.nn.attention.flex_attention import flex_attention

    if device_type != "cuda" or torch.compiler.is_compiling():  # inside compiled blocks it is compiled with them
        return flex_attention
    if _compiled_flex is None:
        _compiled_flex = torch.compile(flex_attention)
    return _compiled_flex


def flex_block_mask(
    segment_ids: Int[Tensor, "batch seq"] | None,
    attention_mask: Bool[Tensor, "batch seq"] | None,
    batch: int,
    seq: int,
    device: torch.device,
    blocks: Int[Tensor, "batch seq"] | None = None,
) -> Any:
    """Return a BlockMask: a token attends to the real tokens of its own segment, up to its own block; padding attends
    to itself.
    """
    from torch.nn.attention.flex_attention import and_masks, create_block_mask, or_masks

    conditions = []
    if segment_ids is not None:
        conditions.append(lambda b, h, i, j: segment_ids[b, i] == segment_ids[b, j])
    if attention_mask is not None:
        conditions.append(lambda b, h, i, j: attention_mask[b, j])
    if blocks is not None:
        conditions.append(lambda b, h, i, j: blocks[b, j] <= blocks[b, i])
    may_attend = or_masks(and_masks(*conditions), lambda b, h, i, j: i == j)
    return create_block_mask(may_attend, batch, None, seq, seq, device=str(device))


def rotary_attention(
    plan: AttentionPlan, qkv: Float[Tensor, "tokens 3 heads channels"], angles: Angles, dropout: float
) -> Heads:
    """Rotate queries and keys, and compute attention under a plan."""
    if isinstance(plan, DocumentPlan) and not dropout and qkv.device.type == "cpu":
        cos, sin = angles
        return attend_documents(qkv, cos[:, 0], sin[:, 0], plan.groups)
    q, k, v = qkv.unbind(1)
    return plan(rotate(q, angles), rotate(k, angles), v, dropout)


@runtime_checkable
class PartialPlan(AttentionPlan, Protocol):
    """A plan that can compute attention for some tokens' queries only."""

    def at(self, read: Int[Tensor, " read"], q: Reads, k: Heads, v: Heads, dropout: float) -> Reads:
        """Return the attention of the queries ``q [N, H, C]`` of tokens ``read`` (ascending)."""
        ...


def supports_partial_queries(plan: AttentionPlan) -> TypeGuard[PartialPlan]:
    """Return whether a plan computes some tokens' queries only; never in compiled code, which cannot read their
    number.
    """
    return not torch.compiler.is_compiling() and isinstance(plan, PartialPlan)


def documents(
    real: Bool[Tensor, "batch seq"], segment_ids: Int[Tensor, "batch seq"] | None
) -> tuple[Int[Tensor, " tokens"], DocumentPlan]:
    """Drop padding and sort the remaining tokens by the length of their documents.

    A document is a run of real tokens of one row and one segment. For CPU tensors: reads lengths on the host.

    Returns:
        The flat index ``[T]`` of the real tokens in their new order, and the plan over those ``T`` tokens.
    """
    token_index, starts = documents_in_order(real, segment_ids)
    lengths = F.pad(starts, (0, 1), value=len(token_index)).diff()
    by_length = lengths.argsort(stable=True)
    # Each token moves with the first token of its document, so that documents stay in order.
    sorted_lengths = lengths[by_length]
    moved = (starts[by_length] - (sorted_lengths.cumsum(0) - sorted_lengths)).repeat_interleave(sorted_lengths)
    length, count = torch.unique_consecutive(sorted_lengths, return_counts=True)
    order = torch.arange(len(token_index), device=real.device) + moved
    return token_index[order], DocumentPlan(torch.stack([count, length], 1))


def plan_attention(
    batch: int,
    seq: int,
    device: torch.device,
    attention_mask: Bool[Tensor, "batch seq"] | None = None,
    segment_ids: Int[Tensor, "batch seq"] | None = None,
    block_mask: Any = None,
    use_flex: bool = False,
    only_flash: bool = False,
    blocks: Int[Tensor, "batch seq"] | None = None,
    drops: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[AttentionPlan, Int[Tensor, " tokens"] | None]:
    """Return the attention plan of a batch, and the flat index of the tokens to run in order (None = all tokens as they
    are).

    Args:
        batch, seq: shape of the batch.
        device: of the batch; selects per-document attention (CPU) or masks.
        attention_mask: True = real token.
        segment_ids: packed rows: tokens attend only within their segment.
        block_mask: a BlockMask, used instead of the two masks.
        use_flex: build a BlockMask from the two masks. On a CPU attention is per document all the same, and with
            dropout masks are dense; either in training causes one warning.
        only_flash: restrict SDPA to its flash kernel; it raises if that is unavailable.
        blocks: attention block of each token, which attends to no later block. None = bidirectional attention.
        drops: whether attention probabilities are dropped out.
        dtype: of queries, keys and values.
    """
    gradients = torch.is_grad_enabled()
    if block_mask is not None:
        flex, on_host = FlexPlan(batch, seq, block_mask), device.type == "cpu"
        return (flex.dense() if drops or device.type == "mps" or (on_host and gradients) else flex), None
    compiling = torch.compiler.is_compiling()  # compiled code has fixed shapes and cannot read lengths
    if use_flex and not compiling and gradients and (drops or device.type in _NO_FLEX):
        _warn_once(
            "FlexAttention has no dropout: in training, attention runs under a dense mask, which is slower. Set dropout=0."
            if device.type not in _NO_FLEX
            else f"use_flex_attn=True is for CUDA: on this device ({device.type}) the network trains without FlexAttention, with the same result."
        )
    use_flex = use_flex and not drops and device.type not in _NO_FLEX
    if use_flex and not compiling and not (attention_mask is None and segment_ids is None and blocks is None):
        return FlexPlan(batch, seq, flex_block_mask(segment_ids, attention_mask, batch, seq, device, blocks)), None
    if segment_ids is not None and blocks is None and not (drops or compiling) and runs_variable_length(device, dtype):
        token_index, packed = packed_documents(attention_mask, segment_ids)
        return packed, token_index
    if device.type == "cpu" and blocks is None and not compiling:
        unpadded = attention_mask is None or bool(attention_mask.all())
        if unpadded and (segment_ids is None or bool((segment_ids == segment_ids[:, :1]).all())):
            equal = torch.tensor([[batch, seq]][: batch * seq]).view(-1, 2)
            return (DensePlan(batch, seq, only_flash=True) if only_flash else DocumentPlan(equal)), None
        real = torch.ones(batch, seq, dtype=torch.bool) if attention_mask is None else attention_mask
        token_index, plan = documents(real, segment_ids)
        return plan, token_index
    mask = None
    if segment_ids is not None:
        mask = document_mask(segment_ids)[:, None]
    if blocks is not None:
        earlier = (blocks[:, None, :] <= blocks[:, :, None])[:, None]
        mask = earlier if mask is None else mask & earlier
    if attention_mask is not None:
        keys = attention_mask[:, None, None, :]
        # A padded query attends to itself, so that no softmax runs over an empty set.
        itself = torch.eye(seq, dtype=torch.bool, device=device)
        mask = (keys if mask is None else mask & keys) | itself
    return DensePlan(batch, seq, mask, only_flash), None
