"""Collators for prompts with answers: the answer is hidden, the prompt never.

    MLMSeq2SeqTrainCollator   prompt · bos · target · eos      right pad                    one row
    MLMSeq2SeqCollator        prompt ‖ bos · target · eos      left pad ‖ right pad         aligned answers
    MLMSeq2SeqPredCollator    prompt · bos ‖ target · eos      left pad ‖ right pad         nothing hidden: for decoding

The three read the same rows and mean the same by the same arguments: ``block_size`` slots for an answer, ``input_block_size`` for a
prompt, together one row. The first two hold the same tokens, the same targets and, for rows with an ``example_id``, the same noise;
only their padding differs.

Rows are ``{"prompt_ids", "target_ids"}`` (``"input_ids"`` is accepted for the target). A prompt that is too long loses its
left, never the answer's slots. EOS ends the answer: it is hidden and scored like the rest of it. Rows that come padded say so in
``prompt_attention_mask`` and ``target_attention_mask``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from unmask.collate.collator import Assembled, CorruptingCollator, diffusion_corruption
from unmask.collate.given import keep, real_tokens
from unmask.collate.layout import check_truncate, frame, keep_end, pad, rounded_up, width_of
from unmask.collate.rows import Ragged, Rows, column, require_column
from unmask.contracts import IGNORED_TARGET, MLMSeq2SeqPredictionBatch, SpecialIds, Truncate
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class MLMSeq2SeqTrainCollator(CorruptingCollator):
    """``prompt · bos · target · eos`` in one row, padded on the right.

    Args:
        tokenizer: anything with the special ids.
        noise_schedule: decides how much of an answer is hidden; as in ``DefaultMLMCollator``.
        block_size: slots of an answer, its BOS and EOS included.
        input_block_size: slots of a prompt; None = as many as the longest prompt of the batch has tokens.
        add_bos, add_eos: BOS between prompt and answer, EOS behind the answer.
        truncate: ``"block"``: rows of ``input_block_size + block_size``. ``"max"``: the longest row, within the same limits for
            prompt and answer. None: the longest row, nothing cut.
        loss_on_padding: slots behind an answer are part of it: attended, hidden and scored (LLaDA's fine-tuning).
        pad_to_multiple_of: round the width up, that of prompts beside answers too.
        seed, low_discrepancy_times, times, pass_through: see ``CorruptingCollator``.

    Result: an ``MLMBatch``.
    """

    def __init__(
        self,
        tokenizer: Any,
        noise_schedule: Any = None,
        block_size: int = 1024,
        input_block_size: int | None = None,
        add_bos: bool = True,
        add_eos: bool = True,
        truncate: Truncate | None = "block",
        loss_on_padding: bool = True,
        *,
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(
            special,
            diffusion_corruption(special, noise_schedule),
            seed,
            low_discrepancy_times,
            time_sampling,
            pass_through,
        )
        self.before = (cast(int, special.require("bos").bos),) if add_bos else ()
        self.after = (cast(int, special.require("eos").eos),) if add_eos else ()
        check_truncate(truncate, block_size, len(self.before) + len(self.after), pad_to_multiple_of)
        if input_block_size is not None and input_block_size < 1:
            raise ValueError(
                f"input_block_size={input_block_size} is the longest prompt, in tokens; None sets no limit."
            )
        if truncate is not None and input_block_size is not None and input_block_size % (pad_to_multiple_of or 1):
            raise ValueError(
                f"pad_to_multiple_of={pad_to_multiple_of} and input_block_size={input_block_size} do not fit: prompts are at most "
                "input_block_size wide, so it must itself be a multiple (such as 512 of 64)."
            )
        self.block_size = block_size
        self.input_block_size = input_block_size
        self.noise_schedule = noise_schedule
        self.add_bos, self.add_eos = add_bos, add_eos
        self.truncate = truncate
        self.loss_on_padding = loss_on_padding
        self.pad_to_multiple_of = pad_to_multiple_of

    def assemble(self, rows: Rows) -> Assembled:
        prompts, answers = self.prompts(rows), self.answers(rows, self.before, self.after)
        slots = self.slots(answers)
        starts = np.array([len(prompt) for prompt in prompts])[:, None]
        whole = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
        if self.truncate == "block":
            left = self.input_block_size or rounded_up(int(starts.max()), self.pad_to_multiple_of)
            width = left + self.block_size
        else:
            longest = int(starts.max()) + slots if self.loss_on_padding else max(map(len, whole))
            width = rounded_up(max(1, longest), self.pad_to_multiple_of)
        ids, real = pad(whole, width, cast(int, self.special.pad))
        place = np.arange(width)
        answer = (place >= starts + len(self.before)) & (place < starts + slots)
        return self.hide_answers(ids, real, torch.from_numpy(answer))

    def answers(self, rows: Rows, before: tuple[int, ...], after: tuple[int, ...]) -> list[np.ndarray]:
        """The framed answers, cut to ``block_size``."""
        tokens = require_column(rows, "target_ids", "input_ids")
        named = column(rows, "target_ids") is not None
        if named and column(rows, "attention_mask") is not None:
            raise ValueError(
                "Rows carry 'attention_mask' beside 'prompt_ids' and 'target_ids', and it does not say of which it is. Name the masks "
                "'prompt_attention_mask' and 'target_attention_mask', or leave the padding out of the rows."
            )
        real = real_tokens(rows, tokens, "target_attention_mask", *(() if named else ("attention_mask",)))
        return frame(keep(tokens, real), self.block_size if self.truncate else None, before, after)

    def prompts(self, rows: Rows) -> list[np.ndarray]:
        """The prompts; one longer than ``input_block_size`` loses its left."""
        tokens = require_column(rows, "prompt_ids")
        prompts = keep(tokens, real_tokens(rows, tokens, "prompt_attention_mask"))
        limit = self.input_block_size if self.truncate else None
        return keep_end(prompts, [len(prompt) if limit is None else limit for prompt in prompts])

    def slots(self, answers: Ragged) -> int:
        """Columns of an answer: ``block_size``, or as many as the longest needs if ``truncate`` says so."""
        return width_of(max(map(len, answers)), self.block_size, self.truncate, self.pad_to_multiple_of)

    def pad_right(self, answers: Ragged) -> tuple[Tensor, Tensor]:
        """Stacked at the width that ``truncate`` says."""
        return pad(answers, self.slots(answers), cast(int, self.special.pad))

    def pad_left(self, prompts: Ragged) -> tuple[Tensor, Tensor]:
        """Stacked at the width that ``truncate`` says of ``input_block_size``, and never below the longest."""
        limited = self.truncate is not None and self.input_block_size is not None
        longest = max(map(len, prompts))
        width = width_of(
            longest, self.input_block_size or 0, self.truncate if limited else None, self.pad_to_multiple_of
        )
        return pad(
            prompts, max(width, rounded_up(longest, self.pad_to_multiple_of)), cast(int, self.special.pad), left=True
        )

    def hide_answers(self, ids: Tensor, real: Tensor, answer: Tensor) -> Assembled:
        """Within ``answer`` all may be hidden that is ordinary or an EOS; with ``loss_on_padding`` padding too."""
        eligible = (
            real & answer & (self.ordinary(ids) | (ids == (-1 if self.special.eos is None else self.special.eos)))
        )
        if self.loss_on_padding:
            eligible, real = eligible | (answer & ~real), real | answer
        return Assembled(ids, real, eligible)


class MLMSeq2SeqCollator(MLMSeq2SeqTrainCollator):
    """``prompt ‖ bos · target · eos``: prompts end and answers begin at the same column in all rows.

    Arguments as in :class:`MLMSeq2SeqTrainCollator`. Result: an ``MLMBatch``.
    """

    def assemble(self, rows: Rows) -> Assembled:
        answers = self.answers(rows, self.before, self.after)
        left, left_real = self.pad_left(self.prompts(rows))
        right, right_real = self.pad_right(answers)
        ids, real = torch.cat([left, right], dim=1), torch.cat([left_real, right_real], dim=1)
        return self.hide_answers(ids, real, torch.arange(ids.shape[1]) >= left.shape[1] + len(self.before))


class MLMSeq2SeqPredCollator(MLMSeq2SeqTrainCollator):
    """``prompt · bos`` to continue, padded on the left, and the true ``target · eos`` beside it, padded on the right.

    Arguments as in :class:`MLMSeq2SeqTrainCollator`. A prompt of all ``input_block_size`` tokens stays whole, and BOS then takes a
    column more. Nothing is hidden here, so ``noise_schedule`` only lets the three collators be made alike.

    Result: ``input_ids`` and ``attention_mask`` ``[B, P]``, and, for rows that have one, ``target_ids`` ``[B, T]``, with PAD
    behind the answer if ``loss_on_padding``, otherwise -100.
    """

    def collate(self, rows: Rows) -> MLMSeq2SeqPredictionBatch:
        ids, real = self.pad_left(frame(self.prompts(rows), None, after=self.before))
        self.ordinary(ids)
        batch = MLMSeq2SeqPredictionBatch(input_ids=ids.clone(), attention_mask=real)
        if column(rows, "target_ids", "input_ids") is not None:
            targets, true = self.pad_right(self.answers(rows, (), self.after))
            self.ordinary(targets)
            batch["target_ids"] = (
                targets.clone() if self.loss_on_padding else targets.masked_fill(~true, IGNORED_TARGET)
            )
        return batch
