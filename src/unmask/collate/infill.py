"""Collators for blanks inside a text: rows ``{"prompt_ids": ids with masks, "input_ids": the truth}``, equally long.

    DefaultInfillMLMCollator               trains on the blanks: a schedule says how many of them stay hidden
    MLMInfillWithExactTargetPredCollator   keeps every blank, for decoding, with the truth as target

Only the prompt's own masks are ever hidden or scored: never BOS, EOS, PAD or a given word. ``fixed_positions_mask`` is True
on all the rest. An ``attention_mask`` of the rows is of both fields, and the padding in them is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.collate.collator import Assembled
from unmask.collate.given import keep, real_tokens
from unmask.collate.padded import DefaultMLMCollator
from unmask.collate.rows import Rows, column, require_column
from unmask.contracts import IGNORED_TARGET, MLMBatch, SpecialIds, Truncate
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.position_sampling import bernoulli
from unmask.ops.replacement import Replacement
from unmask.ops.scheme import Corruption
from unmask.ops.segments import positions_from_mask
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class DefaultInfillMLMCollator(DefaultMLMCollator):
    """``bos · ids · eos``, padded on the right; of the prompt's masks some stay hidden and the others show the truth.

    Args:
        tokenizer, block_size, truncate, add_bos, add_eos, pad_to_multiple_of: as in ``DefaultMLMCollator``.
        noise_schedule: how many of a prompt's masks stay hidden; None = all of them.
        loss_on_padding: attend to padding, as networks trained with ``loss_on_padding`` do. It is never hidden or scored here.
        seed, low_discrepancy_times, times, pass_through: see ``CorruptingCollator``.

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
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer)
        all_of_them = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(special.mask))
        super().__init__(
            special,
            block_size,
            all_of_them if noise_schedule is None else noise_schedule,
            loss_on_padding,
            truncate,
            add_bos,
            add_eos,
            pad_to_multiple_of=pad_to_multiple_of,
            seed=seed,
            low_discrepancy_times=low_discrepancy_times,
            time_sampling=time_sampling,
            pass_through=pass_through,
        )
        self.noise_schedule = noise_schedule

    def prompts(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The prompts laid out, ``[B, L]``, and which of their tokens are real."""
        given = require_column(rows, "prompt_ids")
        return self.lay_out(keep(given, real_tokens(rows, given)))

    def attended(self, real: Tensor) -> Tensor:
        """Positions to attend to: all of them under ``loss_on_padding``."""
        return torch.ones_like(real) if self.loss_on_padding else real

    def assemble(self, rows: Rows) -> Assembled:
        prompts, real = self.prompts(rows)
        known = require_column(rows, "input_ids")
        truth, truth_real = self.lay_out(keep(known, real_tokens(rows, known)))
        if prompts.shape != truth.shape or not torch.equal(real, truth_real):
            raise ValueError(
                "In an infilling row 'input_ids' is the truth of 'prompt_ids', token by token, so the two are equally long; "
                "here they are not. Give each blank as many masks as its answer has tokens."
            )
        self.ordinary(truth)
        blank = real & (prompts == self.special.mask)
        return Assembled(torch.where(blank, truth, prompts), self.attended(real), blank, fixed=~blank)


class MLMInfillWithExactTargetPredCollator(DefaultInfillMLMCollator):
    """The prompts as they are, for decoding, with the truth of each blank as target.

    Arguments as in :class:`DefaultInfillMLMCollator`; nothing is corrupted, so ``noise_schedule`` only lets the two be made
    alike. The truth may be missing (``input_ids`` absent).

    Result: ``input_ids``, ``attention_mask``, ``positions``, ``fixed_positions_mask`` and ``target_ids`` (-100 outside the
    blanks, and everywhere without a truth), each ``[B, L]``.
    """

    def collate(self, rows: Rows) -> MLMBatch:
        prompts, real = self.prompts(rows)
        self.ordinary(prompts)
        blank = real & (prompts == self.special.mask)
        known = column(rows, "input_ids") is not None
        targets: Tensor = (
            self.assemble(rows).ids.masked_fill(~blank, IGNORED_TARGET)
            if known
            else torch.full_like(prompts, IGNORED_TARGET)
        )
        return MLMBatch(
            input_ids=prompts.clone(),
            target_ids=targets,
            attention_mask=self.attended(real),
            positions=positions_from_mask(self.attended(real)),
            fixed_positions_mask=~blank,
        )
