"""Collators for prompts with answers: the answer is hidden, the prompt never.

    MLMSeq2SeqTrainCollator   prompt · bos · target · eos      right pad                    one row of block_size
    MLMSeq2SeqCollator        prompt ‖ bos · target · eos      left pad ‖ right pad         input_block_size + block_size
    MLMSeq2SeqPredCollator    prompt · bos ‖ target · eos      left pad ‖ right pad         nothing hidden: for decoding

Rows are ``{"prompt_ids", "target_ids"}`` (``"input_ids"`` is accepted for the target). A prompt that is too long loses its
left, never the answer's slots. EOS ends the answer: it is hidden and scored like the rest of it.
"""

from __future__ import annotations

from typing import Any, Unpack, cast

import numpy as np
import torch
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMSeq2SeqPredictionBatch, SpecialIds, Truncate
from unmask.data.corrupting import Assembled, CollatorOptions, CorruptingCollator, diffusion_corruption
from unmask.data.layout import check_truncate, frame, keep_end, pad, width_of
from unmask.data.rows import Ragged, Rows, column, require_column


class MLMSeq2SeqTrainCollator(CorruptingCollator):
    """``prompt · bos · target · eos`` in one row, padded on the right.

    Args:
        tokenizer: anything with the special ids.
        noise_schedule: decides how much of an answer is hidden; as in ``DefaultMLMCollator``.
        block_size: tokens of a row, prompt and specials included.
        input_block_size: longest prompt; None = whatever the answer leaves free.
        add_bos, add_eos: BOS between prompt and answer, EOS behind the answer.
        truncate: ``"block"``, ``"max"`` or None.
        loss_on_padding: what follows an answer is part of it: attended, hidden and scored (LLaDA's fine-tuning).
        pad_to_multiple_of: round the width up, that of prompts beside answers too.
        options: ``seed``, ``low_discrepancy_levels``, ``times``, ``pass_through`` of ``CorruptingCollator``.

    Result: an ``MLMBatch``.
    """

    prompts_apart = False  # True = prompts have columns of their own, which input_block_size counts

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
        **options: Unpack[CollatorOptions],
    ) -> None:
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(special, diffusion_corruption(special, noise_schedule), **options)
        self.before = (cast(int, special.require("bos").bos),) if add_bos else ()
        self.after = (cast(int, special.require("eos").eos),) if add_eos else ()
        check_truncate(truncate, block_size, len(self.before) + len(self.after), pad_to_multiple_of)
        if input_block_size is not None and input_block_size < 1:
            raise ValueError(f"input_block_size={input_block_size} is the longest prompt, in tokens; None sets no limit.")
        if self.prompts_apart and truncate is not None and input_block_size is not None and input_block_size % (pad_to_multiple_of or 1):
            raise ValueError(
                f"pad_to_multiple_of={pad_to_multiple_of} and input_block_size={input_block_size} do not fit: prompts are at most "
                "input_block_size wide, so it must itself be a multiple (such as 512 of 64)."
            )
        self.block_size = block_size
        self.input_block_size = input_block_size
        self.truncate = truncate
        self.loss_on_padding = loss_on_padding
        self.pad_to_multiple_of = pad_to_multiple_of

    def assemble(self, rows: Rows) -> Assembled:
        answers = self.answers(rows, self.before, self.after)
        free = [self.block_size - len(answer) if self.truncate else None for answer in answers]
        prompts = self.prompts(rows, free)
        whole = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
        ids, real = self.pad_right(whole)
        behind = torch.tensor([len(prompt) + len(self.before) for prompt in prompts])[:, None]
        return self.hide_answers(ids, real, torch.arange(ids.shape[1]) >= behind)

    def answers(self, rows: Rows, before: tuple[int, ...], after: tuple[int, ...]) -> list[np.ndarray]:
        """The framed answers, cut to ``block_size``."""
        return frame(require_column(rows, "target_ids", "input_ids"), self.block_size if self.truncate else None, before, after)

    def prompts(self, rows: Rows, rooms: list[int | None]) -> list[np.ndarray]:
        """The prompts, without what is too much for them on the left."""
        prompts = require_column(rows, "prompt_ids")
        limits = [[n for n in (room, self.input_block_size) if n is not None and self.truncate] for room in rooms]
        return keep_end(prompts, [min([*limit, len(p)]) for limit, p in zip(limits, prompts, strict=True)])

    def pad_right(self, rows: Ragged) -> tuple[Tensor, Tensor]:
        """Stacked at the width that ``truncate`` says."""
        width = width_of(max(map(len, rows)), self.block_size, self.truncate, self.pad_to_multiple_of)
        return pad(rows, width, cast(int, self.special.pad))

    def pad_left(self, prompts: Ragged) -> tuple[Tensor, Tensor]:
        """Stacked at the width that ``truncate`` says of ``input_block_size``; without one, as wide as the longest."""
        limited = self.truncate is not None and self.input_block_size is not None
        width = width_of(max(map(len, prompts)), self.input_block_size or 0, self.truncate if limited else None, self.pad_to_multiple_of)
        return pad(prompts, width, cast(int, self.special.pad), left=True)

    def hide_answers(self, ids: Tensor, real: Tensor, answer: Tensor) -> Assembled:
        """Everything from ``answer`` on may be hidden that is ordinary or an EOS; with ``loss_on_padding`` padding too."""
        eligible = real & answer & (self.ordinary(ids) | (ids == (-1 if self.special.eos is None else self.special.eos)))
        if self.loss_on_padding:
            eligible, real = eligible | (answer & ~real), real | answer
        return Assembled(ids, real, eligible)


class MLMSeq2SeqCollator(MLMSeq2SeqTrainCollator):
    """``prompt ‖ bos · target · eos``: prompts end and answers begin at the same column in all rows.

    Arguments as in :class:`MLMSeq2SeqTrainCollator`, but ``block_size`` is for the answer alone and ``input_block_size``
    for the prompt beside it; with None, prompts are as wide as the longest. Result: an ``MLMBatch``.
    """

    prompts_apart = True

    def assemble(self, rows: Rows) -> Assembled:
        answers = self.answers(rows, self.before, self.after)
        left, left_real = self.pad_left(self.prompts(rows, [None] * len(answers)))
        right, right_real = self.pad_right(answers)
        ids, real = torch.cat([left, right], dim=1), torch.cat([left_real, right_real], dim=1)
        return self.hide_answers(ids, real, torch.arange(ids.shape[1]) >= left.shape[1] + len(self.before))


class MLMSeq2SeqPredCollator(MLMSeq2SeqTrainCollator):
    """``prompt · bos`` to continue, padded on the left, and the true ``target · eos`` beside it, padded on the right.

    Arguments as in :class:`MLMSeq2SeqCollator`; BOS counts towards ``input_block_size``. Nothing is hidden here, so
    ``noise_schedule`` only lets the three collators be made alike.

    Result: ``input_ids`` and ``attention_mask`` ``[B, P]``, and, for rows that have one, ``target_ids`` ``[B, T]``, with PAD
    behind the answer if ``loss_on_padding``, otherwise -100.
    """

    prompts_apart = True

    def collate(self, rows: Rows) -> MLMSeq2SeqPredictionBatch:
        prompts = require_column(rows, "prompt_ids")
        room = None if self.input_block_size is None or not self.truncate else self.input_block_size - len(self.before)
        cut = keep_end(prompts, [len(p) if room is None else max(0, room) for p in prompts])
        ids, real = self.pad_left(frame(cut, None, after=self.before))
        self.ordinary(ids)
        batch = MLMSeq2SeqPredictionBatch(input_ids=ids.clone(), attention_mask=real)
        if column(rows, "target_ids", "input_ids") is not None:
            targets, true = self.pad_right(self.answers(rows, (), self.after))
            self.ordinary(targets)
            batch["target_ids"] = targets.clone() if self.loss_on_padding else targets.masked_fill(~true, IGNORED_TARGET)
        return batch
