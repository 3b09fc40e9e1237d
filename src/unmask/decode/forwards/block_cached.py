"""KV cache of a block-causal network. **It is exact.**

If a token attends only to its own block and to earlier ones (``causal_block``), keys and values of a finished block are
final. While the block was being filled, though, they were computed from masks. The block is therefore run once more when it is
complete:

    a block opens    run the finished block, from its final tokens, together with the new one
    inside a block   run that block alone
    afterwards       never run the block again

The given tokens before a row's first masked position run once, with that position's block. Positions after the open block are not run, since
no requested logit depends on them (block diffusion with a KV cache: BD3-LM, 2503.09573).

Decoding has to complete attention blocks, which are counted from a row's first token: ``Blocks(causal_block, aligned=True)``. A
prompt that ends inside an attention block leaves a shorter first block to decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import MLMModel, is_autoregressive
from unmask.decode.block_schedule import Blocks, BlockSchedule
from unmask.decode.forwards.cached import logits_by_memory
from unmask.decode.view import StepView
from unmask.nn.kv_cache import KVCache


@dataclass(frozen=True)
class BlockCachedForward:
    """Run the open block of a block-causal network; earlier blocks are cached."""

    needs_aligned_blocks: ClassVar[bool] = True

    def start(self, rows: int, block_schedule: BlockSchedule) -> BlockCachedSession:
        """Return the session of one decode of ``rows`` rows.

        Raises:
            ValueError: a block schedule that does not complete one attention block after the other.
        """
        if not (isinstance(block_schedule, Blocks) and block_schedule.aligned):
            raise ValueError(
                "The block cache keeps finished attention blocks, so decoding must complete one after the other: give block_length=causal_block "
                "of the network (with Rules: block_schedule=Blocks(causal_block, aligned=True))."
            )
        return BlockCachedSession(block_schedule.length, KVCache(rows), torch.zeros(rows, dtype=torch.int64))


def block_cache(refresh: int | None) -> BlockCachedForward:
    """Return the exact cache.

    Raises:
        ValueError: a refresh interval.
    """
    if refresh is not None:
        raise ValueError(
            f"The block cache is exact, so there is nothing for cache_refresh={refresh} to refresh: drop it."
        )
    return BlockCachedForward()


@dataclass
class BlockCachedSession:
    """The cache of one decode.

    Attributes:
        length: positions of a block.
        memory: keys and values of all rows.
        clean: int64 ``[B]``, how many blocks of each row are cached from their final tokens.
    """

    length: int
    memory: KVCache
    clean: Int[Tensor, " batch"]

    def positions(self, view: StepView) -> int:
        """Return the number of tokens that a call with this view processes."""
        return int(self._queries(view)[0].sum())

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return the logits at ``where``.

        Raises:
            ValueError: the model has no attention blocks, or blocks of another length.
        """
        attends = getattr(model, "causal_block", None)
        if attends != self.length:
            raise ValueError(
                f"The block cache is exact if decoding completes the network's attention blocks: blocks of {self.length} are decoded, and "
                + (f"this model's causal_block is {attends}. Give block_length={attends}." if attends is not None else
                   f"this {type(model).__name__} attends in both directions. Use cache='prefix' or 'dual' (approximate), or train a network "
                   f"with model.causal_block={self.length}.")
            )  # fmt: skip
        queries, opened = self._queries(view)
        logits = logits_by_memory(model, self.memory, view, queries, where)
        # The input of an autoregressive network is the token before, so the open block is final already.
        self.clean[view.rows] = opened + is_autoregressive(model)
        return logits

    def _queries(self, view: StepView) -> tuple[Bool[Tensor, "rows seq"], Int[Tensor, " rows"]]:
        """Return the positions to run, and the index of each row's open block."""
        self.clean = self.clean.to(view.ids.device)
        block = view.canvas.positions // self.length
        opened = block.masked_fill(~view.blanks, torch.iinfo(torch.int64).max).amin(-1)
        part = (block >= self.clean[view.rows].minimum(opened)[:, None]) & (block <= opened[:, None])
        return view.canvas.attention_mask & part, opened
