"""Collators for blanks inside a text: rows ``{"prompt_ids": ids with masks, "input_ids": the truth}``, equally long.

    DefaultInfillMLMCollator               trains on the blanks: a schedule says how many of them stay hidden
    MLMInfillWithExactTargetPredCollator   keeps every blank, for decoding, with the truth as target

Only the prompt's own masks are ever hidden or scored: never BOS, EOS, PAD or a given word. ``fixed_positions_mask`` is True
on all the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMBatch, SpecialIds, Truncate
from unmask.data.collators import DefaultMLMCollator
from unmask.data.corrupting import Assembled, CollatorOptions
from unmask.data.rows import Rows, column, require_column
from unmask.ops.choice import coins
from unmask.ops.levels import ConstantLevel
from unmask.ops.replacement import Replacement
from unmask.ops.scheme import Corruption
from unmask.ops.segments import positions_from_mask


class DefaultInfillMLMCollator(DefaultMLMCollator):
    """``bos · ids · eos``, padded on the right; of the prompt's masks some stay hidden and the others show the truth.

    Args:
        tokenizer, block_size, truncate, add_bos, add_eos, pad_to_multiple_of, options: as in ``DefaultMLMCollator``.
        noise_schedule: how many of a prompt's masks stay hidden; None = all of them.
        loss_on_padding: padding is hidden and scored as if it were blank.

    Result: an ``MLMBatch`` with ``fixed_positions_mask``.
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: Any = None,
        loss_on_padding: bool = False,
        truncate: Truncate | None = "block",
        add_bos: bool = True,
        add_eos: bool = True,
        *,
        pad_to_multiple_of: int | None = None,
        **options: Unpack[CollatorOptions],
    ) -> None:
        special = SpecialIds.of(tokenizer)
        if noise_schedule is None:
            noise_schedule = Corruption(ConstantLevel(1.0), coins, Replacement(special.mask))
        super().__init__(
            special,
            block_size,
            noise_schedule,
            loss_on_padding,
            truncate,
            add_bos,
            add_eos,
            pad_to_multiple_of=pad_to_multiple_of,
            **options,
        )

    def assemble(self, rows: Rows) -> Assembled:
        prompts, real = self.lay_out(require_column(rows, "prompt_ids"))
        truth, truth_real = self.lay_out(require_column(rows, "input_ids"))
        if prompts.shape != truth.shape or not torch.equal(real, truth_real):
            raise ValueError(
                "In an infilling row 'input_ids' is the truth of 'prompt_ids', token by token, so the two are equally long; "
                "here they are not. Give each blank as many masks as its answer has tokens."
            )
        self.ordinary(truth)
        blank = real & (prompts == self.special.mask)
        made = self.with_padding(torch.where(blank, truth, prompts), real, blank)
        return replace(made, fixed=~made.eligible)


class MLMInfillWithExactTargetPredCollator(DefaultInfillMLMCollator):
    """The prompts as they are, for decoding, with the truth of each blank as target.

    Arguments as in :class:`DefaultInfillMLMCollator`; nothing is corrupted, so ``noise_schedule`` only lets the two be made
    alike. The truth may be missing (``input_ids`` absent).

    Result: ``input_ids``, ``attention_mask``, ``positions``, ``fixed_positions_mask`` and ``target_ids`` (-100 outside the
    blanks, and everywhere without a truth), each ``[B, L]``.
    """

    def collate(self, rows: Rows) -> MLMBatch:
        prompts, real = self.lay_out(require_column(rows, "prompt_ids"))
        self.ordinary(prompts)
        blank = real & (prompts == self.special.mask)
        known = column(rows, "input_ids") is not None
        targets: Tensor = self.assemble(rows).ids.masked_fill(~blank, IGNORED_TARGET) if known else torch.full_like(
            prompts, IGNORED_TARGET
        )
        return MLMBatch(
            input_ids=prompts.clone(),
            target_ids=targets,
            attention_mask=real,
            positions=positions_from_mask(real),
            fixed_positions_mask=~blank,
        )
