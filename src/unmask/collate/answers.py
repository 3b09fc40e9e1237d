"""Supervised fine-tuning: only answers are masked and scored, in rows of any shape, chats included.

A row is ``{"input_ids", "loss_mask"}``: the whole text, and 1 where a token belongs to an answer. ``{"input_ids",
"labels"}`` means the same with -100 outside answers. ``unmask.chat_row`` converts the messages of a chat. For a single
prompt with its answer, use ``unmask.collate.seq2seq``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unmask.collate.collator import Assembled, NoiseSchedule
from unmask.collate.given import keep, maskable, real_tokens
from unmask.collate.layout import Layout, keep_end, pad
from unmask.collate.padded import PaddedCollator
from unmask.collate.rows import Ragged, Rows, flags, lengths_of, require_column, require_flags
from unmask.contracts import SpecialIds, Truncate
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class SupervisedMLMCollator(PaddedCollator):
    """Rows with a ``loss_mask`` or ``labels``, padded on the right; only answers are masked, special tokens included.

    Args:
        tokenizer: the tokenizer, or its ``SpecialIds``.
        block_size: largest width; a longer row is truncated on the left, so that its last answer remains.
        noise_schedule: law of the answers' mask rate; as in ``DefaultMLMCollator``.

    Other Parameters:
        truncate: ``"block"``, ``"max"`` or None.
        pad_to_multiple_of: round the width up.
        seed, low_discrepancy_times, time_sampling, pass_through: see ``CorruptingCollator``.

    Returns (when called with rows):
        An ``MLMBatch``, every tensor ``[B, L]``.

    Raises:
        ValueError: the tokenizer has no PAD, or the numbers contradict each other.

    Examples:
        >>> from unmask import SpecialIds, SupervisedMLMCollator
        >>> collate = SupervisedMLMCollator(SpecialIds(mask=0, vocab_size=20, pad=1), block_size=8)
        >>> batch = collate([{"input_ids": [5, 6, 7, 8], "loss_mask": [0, 0, 1, 1]}])
        >>> batch["target_ids"].tolist()
        [[-100, -100, 7, 8]]
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: NoiseSchedule = None,
        truncate: Truncate | None = "max",
        *,
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer)
        layout = Layout.of(special, block_size, truncate, pad_to_multiple_of)
        super().__init__(special, layout, noise_schedule, seed, low_discrepancy_times, time_sampling, pass_through)

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        answers = _answers(rows, tokens)
        given = real_tokens(rows, tokens)
        tokens, answers = keep(tokens, given), keep(answers, given)
        limit = self.layout.limit
        rooms = [n if limit is None else min(n, limit) for n in lengths_of(tokens)]
        ids, real = self.layout.stack(keep_end(tokens, rooms))
        answer = pad(keep_end(answers, rooms), ids.shape[1], 0)[0] != 0
        self.ordinary(ids)
        return Assembled(ids, real, real & answer & (ids != self.special.mask))


def _answers(rows: Rows, tokens: Ragged) -> Ragged:
    """Locate the tokens of answers by ``loss_mask``, by ``labels``, or by both."""
    labelled = maskable(rows, tokens, special_tokens=False)
    if labelled is not None and flags(rows, "loss_mask") is None:
        return labelled
    answers = require_flags(rows, "loss_mask")
    if lengths_of(tokens) != lengths_of(answers):
        raise ValueError(
            "Each row's 'loss_mask' must be as long as its 'input_ids', and here it is not. Use 1 for a token of an "
            "answer, 0 for all others."
        )
    return answers if labelled is None else [a & b for a, b in zip(answers, labelled, strict=True)]
