"""Collators for prompts with answers: answers are masked, prompts never.

    MLMSeq2SeqTrainCollator   prompt · bos · target · eos      right pad                    one row
    MLMSeq2SeqCollator        prompt ‖ bos · target · eos      left pad ‖ right pad         aligned answers
    MLMSeq2SeqPredCollator    prompt · bos ‖ target · eos      left pad ‖ right pad         no masks: for decoding

The three accept the same rows and arguments: ``block_size`` positions for an answer and ``input_block_size`` for a
prompt. The first two produce the same tokens, the same targets and, for rows with an ``example_id``, the same noise;
only padding differs.

Rows are ``{"prompt_ids", "target_ids"}`` (``"input_ids"`` is accepted for the target). A prompt that is too long is
truncated on the left and never reduces the positions of the answer. EOS ends the answer and is masked and scored like
its other tokens. Rows that are already padded come with ``prompt_attention_mask`` and ``target_attention_mask``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.collate.collator import Assembled, NoiseSchedule
from unmask.collate.given import keep, real_tokens
from unmask.collate.layout import Layout, frame, keep_end, pad, rounded_up, width_of
from unmask.collate.padded import PaddedCollator
from unmask.collate.rows import Ragged, Rows, column, require_column
from unmask.contracts import IGNORED_TARGET, MLMSeq2SeqPredictionBatch, SpecialIds, Truncate
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class MLMSeq2SeqTrainCollator(PaddedCollator):
    """``prompt · bos · target · eos`` in one row, padded on the right.

    Args:
        tokenizer: the tokenizer, or its ``SpecialIds``.
        noise_schedule: law of the answer's mask rate; as in ``DefaultMLMCollator``.
        block_size: positions of an answer, its BOS and EOS included.
        input_block_size: positions of a prompt; None = as many as the longest prompt of the batch has tokens.

    Other Parameters:
        add_bos, add_eos: BOS between prompt and answer, EOS after the answer.
        truncate: ``"block"``: rows of ``input_block_size + block_size``. ``"max"``: as wide as the longest row, with
            the same limits for prompt and answer. None: as wide as the longest row, nothing truncated.
        loss_on_padding: positions after an answer belong to it: attended, masked and scored (fine-tuning of LLaDA, Nie
            et al. 2025).
        pad_to_multiple_of: round the width up; also the width of prompts beside aligned answers.
        seed, low_discrepancy_times, time_sampling, pass_through: see ``CorruptingCollator``.

    Returns (when called with rows):
        An ``MLMBatch``, every tensor ``[B, L]``.

    Raises:
        ValueError: a special token is missing, or the numbers contradict each other.

    Examples:
        >>> from unmask import MLMSeq2SeqTrainCollator, SpecialIds
        >>> special = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
        >>> collate = MLMSeq2SeqTrainCollator(special, block_size=4, input_block_size=2, loss_on_padding=False)
        >>> batch = collate([{"prompt_ids": [7, 8], "target_ids": [9]}])
        >>> batch["target_ids"].tolist()
        [[-100, -100, -100, 9, 3, -100]]
    """

    def __init__(
        self,
        tokenizer: Any,
        noise_schedule: NoiseSchedule = None,
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
        special = SpecialIds.of(tokenizer)
        layout = Layout.of(special, block_size, truncate, pad_to_multiple_of, add_bos=add_bos, add_eos=add_eos)
        super().__init__(special, layout, noise_schedule, seed, low_discrepancy_times, time_sampling, pass_through)
        if input_block_size is not None and input_block_size < 1:
            raise ValueError(
                f"input_block_size={input_block_size} is the length of the longest prompt: pass at least 1 token, or "
                "None for no limit."
            )
        if truncate is not None and input_block_size is not None and input_block_size % (pad_to_multiple_of or 1):
            raise ValueError(
                f"pad_to_multiple_of={pad_to_multiple_of} and input_block_size={input_block_size} do not fit: prompts "
                "are at most input_block_size wide, so it must itself be a multiple (such as 512 of 64)."
            )
        self.input_block_size = input_block_size
        self.loss_on_padding = loss_on_padding

    def assemble(self, rows: Rows) -> Assembled:
        layout = self.layout
        prompts, answers = self.prompts(rows), self.answers(rows, layout.before, layout.after)
        answer_width = layout.width(max(map(len, answers)))
        starts = np.array([len(prompt) for prompt in prompts])[:, None]
        joined = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
        if layout.truncate == "block":
            left = self.input_block_size or rounded_up(int(starts.max()), layout.pad_to_multiple_of)
            width = left + layout.block_size
        else:
            longest = int(starts.max()) + answer_width if self.loss_on_padding else max(map(len, joined))
            width = rounded_up(max(1, longest), layout.pad_to_multiple_of)
        ids, real = pad(joined, width, layout.pad_id)
        columns = np.arange(width)
        answer = (columns >= starts + len(layout.before)) & (columns < starts + answer_width)
        return self.maskable_answers(ids, real, torch.from_numpy(answer))

    def answers(self, rows: Rows, before: tuple[int, ...], after: tuple[int, ...]) -> list[np.ndarray]:
        """Return the framed answers, truncated to ``block_size``."""
        tokens = require_column(rows, "target_ids", "input_ids")
        named = column(rows, "target_ids") is not None
        if named and column(rows, "attention_mask") is not None:
            raise ValueError(
                "Rows carry 'attention_mask' beside 'prompt_ids' and 'target_ids', so it is unclear which of the two "
                "it describes. Name the masks 'prompt_attention_mask' and 'target_attention_mask', or remove the "
                "padding."
            )
        real = real_tokens(rows, tokens, "target_attention_mask", *(() if named else ("attention_mask",)))
        return frame(keep(tokens, real), self.layout.limit, before, after)

    def prompts(self, rows: Rows) -> list[np.ndarray]:
        """Return the prompts, truncated on the left to ``input_block_size``."""
        tokens = require_column(rows, "prompt_ids")
        prompts = keep(tokens, real_tokens(rows, tokens, "prompt_attention_mask"))
        limit = self.input_block_size if self.truncate else None
        return keep_end(prompts, [len(prompt) if limit is None else limit for prompt in prompts])

    def pad_left(self, prompts: Ragged) -> tuple[Tensor, Tensor]:
        """Stack prompts, padded on the left to ``input_block_size`` by ``truncate``, or to the longest prompt."""
        layout = self.layout
        limited = layout.truncate is not None and self.input_block_size is not None
        longest = max(map(len, prompts))
        truncate = layout.truncate if limited else None
        width = width_of(longest, self.input_block_size or 0, truncate, layout.pad_to_multiple_of)
        return pad(prompts, max(width, rounded_up(longest, layout.pad_to_multiple_of)), layout.pad_id, left=True)

    def maskable_answers(self, ids: Tensor, real: Tensor, answer: Tensor) -> Assembled:
        """Mark ordinary tokens and EOS within ``answer`` as maskable, and padding under ``loss_on_padding``."""
        eligible = (
            real & answer & (self.ordinary(ids) | (ids == (-1 if self.special.eos is None else self.special.eos)))
        )
        if self.loss_on_padding:
            eligible, real = eligible | (answer & ~real), real | answer
        return Assembled(ids, real, eligible)


class MLMSeq2SeqCollator(MLMSeq2SeqTrainCollator):
    """``prompt ‖ bos · target · eos``: prompts end and answers begin at the same column in all rows.

    The arguments are those of :class:`MLMSeq2SeqTrainCollator`.

    Returns (when called with rows):
        An ``MLMBatch``, every tensor ``[B, P + T]``.

    Examples:
        >>> from unmask import MLMSeq2SeqCollator, SpecialIds
        >>> special = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
        >>> collate = MLMSeq2SeqCollator(special, block_size=4, input_block_size=3, loss_on_padding=False)
        >>> batch = collate([{"prompt_ids": [7, 8], "target_ids": [9]}])
        >>> batch["attention_mask"].long().tolist(), batch["target_ids"].tolist()
        ([[0, 1, 1, 1, 1, 1, 0]], [[-100, -100, -100, -100, 9, 3, -100]])
    """

    def assemble(self, rows: Rows) -> Assembled:
        answers = self.answers(rows, self.layout.before, self.layout.after)
        left, left_real = self.pad_left(self.prompts(rows))
        right, right_real = self.layout.stack(answers)
        ids, real = torch.cat([left, right], dim=1), torch.cat([left_real, right_real], dim=1)
        answer = torch.arange(ids.shape[1]) >= left.shape[1] + len(self.layout.before)
        return self.maskable_answers(ids, real, answer)


class MLMSeq2SeqPredCollator(MLMSeq2SeqTrainCollator):
    """``prompt · bos`` to continue, padded on the left, and the true ``target · eos``, padded on the right.

    The arguments are those of :class:`MLMSeq2SeqTrainCollator`; ``noise_schedule`` has no effect.

    Returns (when called with rows):
        ``input_ids`` and ``attention_mask`` ``[B, P]``. A prompt of ``input_block_size`` tokens is not truncated for
        BOS, so ``P`` is then one more. For rows with a target also ``target_ids`` ``[B, T]``, padded with PAD under
        ``loss_on_padding``, otherwise with -100.

    Examples:
        >>> from unmask import MLMSeq2SeqPredCollator, SpecialIds
        >>> special = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
        >>> collate = MLMSeq2SeqPredCollator(special, block_size=4, input_block_size=4, truncate="max")
        >>> batch = collate([{"prompt_ids": [7, 8], "target_ids": [9]}, {"prompt_ids": [7], "target_ids": [9]}])
        >>> batch["input_ids"].tolist()
        [[7, 8, 2], [1, 7, 2]]
    """

    def collate(self, rows: Rows) -> MLMSeq2SeqPredictionBatch:
        ids, real = self.pad_left(frame(self.prompts(rows), None, after=self.layout.before))
        self.ordinary(ids)
        batch = MLMSeq2SeqPredictionBatch(input_ids=ids.clone(), attention_mask=real)
        if column(rows, "target_ids", "input_ids") is not None:
            targets, true = self.layout.stack(self.answers(rows, (), self.layout.after))
            self.ordinary(targets)
            batch["target_ids"] = (
                targets.clone() if self.loss_on_padding else targets.masked_fill(~true, IGNORED_TARGET)
            )
        return batch
