"""Attention of documents laid end to end, by the variable-length flash kernel of CUDA.

A document is a run of real tokens of one row and one segment. The kernel receives the offsets of all documents and
computes nothing between them, so padding costs nothing and no mask exists.

Shapes: q, k, v ``[T, H, C]`` in bf16 or fp16; offsets int32 ``[documents + 1]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Heads = Float[Tensor, "tokens heads channels"]


@dataclass(frozen=True)
class PackedPlan:
    """Documents laid end to end, for the variable-length flash kernel of CUDA.

    ``offsets``, int32 ``[documents + 1]``, are the first token of each document, and the number of tokens.
    """

    offsets: Int[Tensor, " offsets"]
    longest: int

    def __call__(self, q: Heads, k: Heads, v: Heads, dropout: float) -> Heads:
        if dropout:
            raise ValueError("Variable-length flash attention has no dropout: set dropout=0.")
        from torch.nn.attention.varlen import varlen_attn

        return cast(Tensor, varlen_attn(q, k, v, self.offsets, self.offsets, self.longest, self.longest))


def runs_variable_length(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the variable-length flash kernel computes attention of this dtype: bf16 or fp16 on CUDA, from
    compute capability 8.0 on.
    """
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and find_spec("torch.nn.attention.varlen") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def documents_in_order(
    real: Bool[Tensor, "batch seq"], segment_ids: Int[Tensor, "batch seq"] | None
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " documents"]]:
    """Return the flat index of the real tokens, and the first token of each document among them."""
    token_index = real.flatten().nonzero()[:, 0]
    row = token_index // real.shape[1]
    fresh = row.diff() != 0
    if segment_ids is not None:
        fresh |= segment_ids.flatten()[token_index].diff() != 0
    starts = torch.cat([token_index.new_zeros(1), fresh.nonzero()[:, 0] + 1]) if len(token_index) else token_index
    return token_index, starts


def packed_documents(
    real: Bool[Tensor, "batch seq"] | None, segment_ids: Int[Tensor, "batch seq"]
) -> tuple[Int[Tensor, " tokens"] | None, PackedPlan]:
    """Drop padding and keep the remaining tokens in order.

    Reads the numbers of tokens and of documents on the host, so an accelerator is waited for once a batch or twice.

    Returns:
        As :func:`documents`; an index of None stands for all tokens as they are.
    """
    everywhere = torch.ones_like(segment_ids, dtype=torch.bool) if real is None else real
    token_index, starts = documents_in_order(everywhere, segment_ids)
    offsets = F.pad(starts, (0, 1), value=len(token_index)).int()
    every_token = len(token_index) == segment_ids.numel()
    return None if every_token else token_index, PackedPlan(offsets, segment_ids.shape[1])
