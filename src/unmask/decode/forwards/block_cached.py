"""The cached forward of a block-causal network. **It is exact.**

Where a token attends to its own block and to earlier ones alone (``causal_block``), the keys and values of a finished block never
change again. Those that were stored while it was being filled were made of masks, though, so it is run once more when it is
complete:

    a block opens    the finished block, from its clean tokens, together with the new one
    inside a block   that block alone
    ever after       never

What stands before a row's first blank is run once, with the block of that blank; what follows the open block is not run at all,
since nothing asked for depends on it (block diffusion with a cache: BD3-LM, 2503.09573).

Decoding has to finish attention blocks, and those are counted from a row's first token: ``Blocks(causal_block, aligned=True)``. A
prompt that ends inside an attention block leaves a shorter first block to decode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.block_schedule import Blocks, BlockSchedule
from unmask.decode.forwards.cached import logits_by_memory
from unmask.decode.view import StepView
from unmask.nn.kv_cache import KVCache


@dataclass(frozen=True)
class BlockCachedForward:
    """Ask a block-causal network about the open block; what came before is remembered."""

    passes: int = field(default=1, init=False)

    def start(self, rows: int, block_schedule: BlockSchedule) -> BlockCachedSession:
        """The forward of one decode of ``rows`` rows.

        Raises:
            ValueError: a window that does not finish one attention block after the other.
        """
        if not (isinstance(block_schedule, Blocks) and block_schedule.aligned):
            raise ValueError(
                "The block cache remembers finished attention blocks, so decoding must finish one after the other: give block_length, the "
                "network's causal_block, and aligned_blocks=True (by hand: window=Blocks(causal_block, aligned=True))."
            )
        return BlockCachedSession(block_schedule.length, KVCache(rows), torch.zeros(rows, dtype=torch.int64))


@dataclass
class BlockCachedSession:
    """A block-cached forward at work; it serves one decode.

    Attributes:
        length: positions of a block.
        memory: keys and values of all rows.
        clean: int64 ``[B]``, how many blocks of each row are remembered from their final tokens.
    """

    length: int
    memory: KVCache
    clean: Int[Tensor, " batch"]

    def positions(self, view: StepView) -> int:
        """How many tokens a call with this view runs."""
        return int(self._queries(view)[0].sum())

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
        attends = getattr(model, "causal_block", None)
        if attends != self.length:
            raise ValueError(
                f"The block cache is exact where attention blocks are those that decoding finishes: blocks of {self.length} are decoded, and "
                + (f"this model's causal_block is {attends}. Give block_length={attends}." if attends is not None else
                   f"this {type(model).__name__} attends in both directions. Use cache='prefix' or 'dual' (approximate), or train a network "
                   f"with model.causal_block={self.length}.")
            )  # fmt: skip
        queries, opened = self._queries(view)
        answer = logits_by_memory(model, self.memory, view, queries, where)
        self.clean[view.rows] = opened
        return answer

    def _queries(self, view: StepView) -> tuple[Bool[Tensor, "rows seq"], Int[Tensor, " rows"]]:
        """The positions to run, and the number of each row's open block."""
        self.clean = self.clean.to(view.ids.device)
        block = view.canvas.positions // self.length
        opened = block.masked_fill(~view.blanks, torch.iinfo(torch.int64).max).amin(-1)
        part = (block >= self.clean[view.rows][:, None]) & (block <= opened[:, None])
        return view.canvas.attention_mask & part, opened
