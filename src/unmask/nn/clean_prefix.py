"""Attention of block diffusion over noisy and clean rows ``[x_t | x_0]`` (BD3-LM, Arriola et al. 2025, 2503.09573, sec. 3.3).

    noisy token of block b    attends to noisy tokens of block b and to clean tokens of blocks before b
    clean token of block b    attends to clean tokens of blocks up to b, and never to noisy tokens

One pass over both rows thus gives, for every block, the logits of a block-causal network run on that noisy block after its
clean prefix. Both rows have the same positions; blocks count from the first token of each document.

On a CPU tokens lie end to end, documents sorted by length: first the noisy tokens, then the clean ones that any noisy token
attends to, which leaves out the last block of each document. Attention runs for one length and a few blocks at a time,
against the keys that these blocks attend to: about a quarter of the dense ``2 L x 2 L`` products. On other devices rows have
``2 L`` tokens under a BlockMask or a dense mask.

Shapes: q, k, v ``[T, H, C]`` with ``N`` noisy tokens first; rows ``[B, 2 L]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.nn.attention import AttentionPlan, DensePlan, FlexPlan, Heads, Reads, documents
from unmask.nn.document_attention import spans

CHUNK = 64  # queries of a document per product, rounded up to whole blocks


@dataclass(frozen=True)
class CleanPrefixPlan:
    """Documents laid end to end, sorted by length: all their noisy tokens, then their clean prefixes.

    Attributes:
        groups: ``[G, 2]``, count and length of the documents of each length.
        block: tokens of a block.
    """

    groups: Int[Tensor, "groups 2"]
    block: int

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        return self._attend(q, k, v, dropout, with_clean=True)

    def at(self, read: Int[Tensor, " read"], q: Reads, k: Heads, v: Heads, dropout: float) -> Reads:
        """Return the attention of the queries ``q [N, H, C]`` of noisy tokens ``read``."""
        noisy = q.new_zeros(self.noisy_tokens, *q.shape[1:]).index_copy(0, read, q)
        return self._attend(noisy, k, v, dropout, with_clean=False)[read]

    @cached_property
    def prefixes(self) -> Int[Tensor, "groups 2"]:
        """Count and length of the clean prefixes: every block of a document but the last."""
        return prefixes_of(self.groups, self.block)

    @cached_property
    def noisy_tokens(self) -> int:
        """Number of noisy tokens."""
        return int(self.groups.prod(-1).sum())

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float, with_clean: bool) -> Tensor:
        first, noisy_out, clean_out = self.noisy_tokens, [v[:0]], [v[:0]]
        for (where, count, length), (prefix, _, clean_length) in zip(
            spans(self.groups), spans(self.prefixes), strict=True
        ):
            clean = slice(first + prefix.start, first + prefix.stop)
            # A view into rows [count, H, length, C] of each stream.
            noisy_q, noisy_k, noisy_v = (_rows(x[where], count, length) for x in (q, k, v))
            clean_k, clean_v = (_rows(x[clean], count, clean_length) for x in (k, v))
            clean_q = _rows(q[clean], count, clean_length) if with_clean else None
            noisy_parts, clean_parts = [], []
            step = -(-CHUNK // self.block) * self.block
            for start in range(0, length, step):
                stop, clean_stop = min(start + step, length), min(start + step, clean_length)
                queries, keys, values = noisy_q[:, :, start:stop], noisy_k[:, :, start:stop], noisy_v[:, :, start:stop]
                if clean_q is not None and clean_stop > start:
                    queries = torch.cat([queries, clean_q[:, :, start:clean_stop]], 2)
                mask = None
                if clean_stop > 0:
                    keys = torch.cat([clean_k[:, :, :clean_stop], keys], 2)
                    values = torch.cat([clean_v[:, :, :clean_stop], values], 2)
                if clean_stop > 0 or stop - start > self.block:
                    mask = _chunk_mask(start, stop, clean_stop, queries.shape[2], self.block)
                out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
                noisy_parts.append(out[:, :, : stop - start])
                clean_parts.append(out[:, :, stop - start :])
            noisy_out.append(_flat(noisy_parts))
            if with_clean:
                clean_out.append(_flat(clean_parts))
        return torch.cat(noisy_out + clean_out) if with_clean else torch.cat(noisy_out)


def _rows(x: Tensor, count: int, length: int) -> Tensor:
    return x.view(count, length, *x.shape[1:]).transpose(1, 2)


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 2).transpose(1, 2).flatten(0, 1)


def _chunk_mask(start: int, stop: int, clean_stop: int, queries: int, block: int) -> Bool[Tensor, "query key"]:
    """Return who attends to whom among the queries of a chunk, noisy then clean, and its keys, clean then noisy."""
    noisy = torch.arange(start, stop) // block
    clean = torch.arange(start, start + queries - len(noisy)) // block
    keys = torch.arange(clean_stop) // block
    of_noisy = torch.cat([keys < noisy[:, None], noisy == noisy[:, None]], 1)
    of_clean = torch.cat([keys <= clean[:, None], torch.zeros(len(clean), len(noisy), dtype=torch.bool)], 1)
    return torch.cat([of_noisy, of_clean])


def prefixes_of(groups: Int[Tensor, "groups 2"], block: int) -> Int[Tensor, "groups 2"]:
    """Return count and length of the clean prefixes of documents: all whole blocks before the last token's block."""
    count, length = groups.unbind(1)
    return torch.stack([count, (length - 1).clamp(min=0) // block * block], 1)


def clean_prefix_mask(
    blocks: Int[Tensor, "batch seq"],
    attention_mask: Bool[Tensor, "batch seq"] | None = None,
    segment_ids: Int[Tensor, "batch seq"] | None = None,
) -> Bool[Tensor, "batch double double"]:
    """Return who attends to whom in rows ``[x_t | x_0]``, as a dense mask; this is the definition.

    Args:
        blocks: int64 ``[B, L]``, block of each position.
        attention_mask: True = real token; a padded query attends to itself.
        segment_ids: packed rows; tokens attend only within their segment.

    Examples:
        >>> import torch
        >>> clean_prefix_mask(torch.tensor([[0, 1]])).int()[0]
        tensor([[1, 0, 0, 0],
                [0, 1, 1, 0],
                [0, 0, 1, 0],
                [0, 0, 1, 1]], dtype=torch.int32)
    """
    query, key = blocks[:, :, None], blocks[:, None, :]
    noisy = torch.cat([query == key, key < query], -1)
    clean = torch.cat([torch.zeros_like(query == key), key <= query], -1)
    mask = torch.cat([noisy, clean], 1)
    if segment_ids is not None:
        twice = torch.cat([segment_ids, segment_ids], 1)
        mask = mask & (twice[:, :, None] == twice[:, None, :])
    if attention_mask is not None:
        mask = mask & torch.cat([attention_mask, attention_mask], 1)[:, None, :]
        mask = mask | torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    return mask


def clean_prefix_block_mask(
    blocks: Int[Tensor, "batch seq"],
    attention_mask: Bool[Tensor, "batch seq"] | None,
    segment_ids: Int[Tensor, "batch seq"] | None,
) -> Any:
    """Return :func:`clean_prefix_mask` as a FlexAttention BlockMask over ``2 L`` tokens."""
    from torch.nn.attention.flex_attention import and_masks, create_block_mask, or_masks

    batch, seq = blocks.shape
    twice = torch.cat([blocks, blocks], 1)
    segments = torch.zeros_like(twice) if segment_ids is None else torch.cat([segment_ids, segment_ids], 1)
    real = torch.ones_like(twice, dtype=torch.bool) if attention_mask is None else torch.cat([attention_mask] * 2, 1)

    conditions = and_masks(
        or_masks(
            lambda b, h, i, j: (i < seq) & (j < seq) & (twice[b, j] == twice[b, i]),
            lambda b, h, i, j: (j >= seq) & (twice[b, j] < twice[b, i]),
            lambda b, h, i, j: (i >= seq) & (j >= seq) & (twice[b, j] == twice[b, i]),
        ),
        lambda b, h, i, j: (segments[b, i] == segments[b, j]) & real[b, j],
    )
    may_attend = or_masks(conditions, lambda b, h, i, j: i == j)
    return create_block_mask(may_attend, batch, None, 2 * seq, 2 * seq, device=str(blocks.device))


def prefix_block(causal_block: int | None, shift: bool) -> int:
    """Return the length of the blocks with clean prefixes, which is that of the network's attention blocks.

    Raises:
        ValueError: a network that attends both ways, or an autoregressive one.
    """
    if causal_block is None or shift:
        raise ValueError(
            "x_0 gives each block of a block-causal network the clean tokens before it, and this network "
            + ("is autoregressive, with clean tokens as its input" if shift else "attends both ways")
            + ": leave x_0 (objective.clean_prefix) out, or build the network with causal_block."
        )
    return causal_block


def plan_clean_prefix(
    positions: Int[Tensor, "batch seq"],
    block: int,
    attention_mask: Bool[Tensor, "batch seq"] | None = None,
    segment_ids: Int[Tensor, "batch seq"] | None = None,
    use_flex: bool = False,
    drops: bool = False,
) -> tuple[AttentionPlan, Int[Tensor, " tokens"] | None]:
    """Return the plan of rows ``[x_t | x_0]``, and the flat index, into ``[B, 2 L]``, of the tokens to run (None = all).

    Args:
        positions: int64 ``[B, L]``, rotary positions, the same for both rows.
        block: tokens of a block.
        attention_mask: True = real token.
        segment_ids: packed rows: tokens attend only within their segment.
        use_flex: use FlexAttention on CUDA.
        drops: whether attention probabilities are dropped out, for which FlexAttention has no support.
    """
    batch, seq = positions.shape
    device = positions.device
    if device.type == "cpu" and not torch.compiler.is_compiling():
        real = torch.ones(batch, seq, dtype=torch.bool) if attention_mask is None else attention_mask
        token_index, plan = documents(real, segment_ids)
        counted = [torch.arange(length).repeat(count) for count, length in plan.groups.tolist()]
        inside = torch.cat([*counted, token_index[:0]])
        # Rows with positions of their own have blocks of other lengths, which only masks describe.
        if torch.equal(inside, positions.flatten()[token_index]):
            noisy = token_index // seq * 2 * seq + token_index % seq
            kept = prefixes_of(plan.groups, block)[:, 1].repeat_interleave(plan.groups.prod(-1))
            return CleanPrefixPlan(plan.groups, block), torch.cat([noisy, noisy[inside < kept] + seq])
    blocks = positions // block
    if use_flex and not drops and device.type == "cuda":
        return FlexPlan(batch, 2 * seq, clean_prefix_block_mask(blocks, attention_mask, segment_ids)), None
    return DensePlan(batch, 2 * seq, clean_prefix_mask(blocks, attention_mask, segment_ids)[:, None]), None
