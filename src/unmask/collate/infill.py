"""Collators for infilling: rows ``{"prompt_ids": ids with masks, "input_ids": the complete text}`` of equal length.

    DefaultInfillMLMCollator               training: a schedule decides how many of the prompt's masks remain masked
    MLMInfillWithExactTargetPredCollator   decoding: every mask remains, with the complete text as target

Only the prompt's own masks are ever masked or scored: never BOS, EOS, PAD or a given token. ``fixed_positions_mask`` is
True at all other positions. An ``attention_mask`` in the rows applies to both fields, whose padding is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.collate.collator import Assembled, NoiseSchedule
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
    """``bos · ids · eos``, padded on the right; some of the prompt's masks remain, the others show the clean token.

    Args:
        tokenizer: the tokenizer, or its ``SpecialIds``.
        block_size: width, or largest width; as in ``DefaultMLMCollator``.
        noise_schedule: law of the fraction of the prompt's masks that remain masked; None = all of them.
        loss_on_padding: attend to padding, for models trained with ``loss_on_padding``. It is never masked or scored
            here.

    Other Parameters:
        truncate, add_bos, add_eos, pad_to_multiple_of: as in ``DefaultMLMCollator``.
        seed, low_discrepancy_times, time_sampling, pass_through: see ``CorruptingCollator``.

    Returns (when called with rows):
        An ``MLMBatch`` with ``fixed_positions_mask``, every tensor ``[B, L]``.

    Raises:
        ValueError: when called with rows whose ``prompt_ids`` and ``input_ids`` differ in length.

    Examples:
        >>> from unmask import DefaultInfillMLMCollator, SpecialIds
        >>> special = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
        >>> collate = DefaultInfillMLMCollator(special, block_size=5)
        >>> batch = collate([{"prompt_ids": [7, 0, 9], "input_ids": [7, 8, 9]}])
        >>> batch["input_ids"].tolist(), batch["target_ids"].tolist()
        ([[2, 7, 0, 9, 3]], [[-100, -100, 8, -100, -100]])
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: NoiseSchedule = None,
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
        all_masks = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(special.mask))
        super().__init__(
            special,
            block_size,
            all_masks if noise_schedule is None else noise_schedule,
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
        """Lay out the prompts: ids ``[B, L]`` and the mask of real tokens."""
        given = require_column(rows, "prompt_ids")
        return self.lay_out(keep(given, real_tokens(rows, given)))

    def attended(self, real: Tensor) -> Tensor:
        """Return the positions to attend to: the real ones, or all under ``loss_on_padding``."""
        return torch.ones_like(real) if self.loss_on_padding else real

    def assemble(self, rows: Rows) -> Assembled:
        prompts, real = self.prompts(rows)
        complete = require_column(rows, "input_ids")
        clean, clean_real = self.lay_out(keep(complete, real_tokens(rows, complete)))
        if prompts.shape != clean.shape or not torch.equal(real, clean_real):
            raise ValueError(
                "In an infilling row, 'input_ids' is the complete text of 'prompt_ids', so the two are equally long; "
                "here they are not. Use as many masks for each gap as its answer has tokens."
            )
        self.ordinary(clean)
        masked = real & (prompts == self.special.mask)
        return Assembled(torch.where(masked, clean, prompts), self.attended(real), masked, fixed=~masked)


class MLMInfillWithExactTargetPredCollator(DefaultInfillMLMCollator):
    """The prompts without corruption, for decoding, with the clean token of each mask as target.

    The arguments are those of :class:`DefaultInfillMLMCollator`; ``noise_schedule`` has no effect.

    Returns (when called with rows, whose ``input_ids`` may be absent):
        ``input_ids``, ``attention_mask``, ``positions``, ``fixed_positions_mask`` and ``target_ids``, ``[B, L]`` each.
        ``target_ids`` are -100 outside the masks, and everywhere without ``input_ids``.

    Examples:
        >>> from unmask import MLMInfillWithExactTargetPredCollator, SpecialIds
        >>> special = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
        >>> collate = MLMInfillWithExactTargetPredCollator(special, block_size=5)
        >>> batch = collate([{"prompt_ids": [7, 0, 9]}])
        >>> batch["input_ids"].tolist(), batch["fixed_positions_mask"].tolist()
        ([[2, 7, 0, 9, 3]], [[True, True, False, True, True]])
    """

    def collate(self, rows: Rows) -> MLMBatch:
        prompts, real = self.prompts(rows)
        self.ordinary(prompts)
        masked = real & (prompts == self.special.mask)
        targets: Tensor = (
            torch.full_like(prompts, IGNORED_TARGET)
            if column(rows, "input_ids") is None
            else self.assemble(rows).ids.masked_fill(~masked, IGNORED_TARGET)
        )
        return MLMBatch(
            input_ids=prompts.clone(),
            target_ids=targets,
            attention_mask=self.attended(real),
            positions=positions_from_mask(self.attended(real)),
            fixed_positions_mask=~masked,
        )
