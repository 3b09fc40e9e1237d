"""Supervised fine-tuning: loss on answers only, for rows of any shape and for chats.

A row is ``{"input_ids", "loss_mask"}``: the whole text, and 1 where a token belongs to an answer. ``{"input_ids", "labels"}`` is
the same with -100 where it does not. ``chat_row`` makes a row from messages through the tokenizer's own template. (A single prompt with its answer is a ``unmask.collate.seq2seq`` row.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from unmask.collate.collator import Assembled, CorruptingCollator, diffusion_corruption
from unmask.collate.given import hideable, keep, real_tokens
from unmask.collate.layout import check_truncate, keep_end, pad, width_of
from unmask.collate.rows import Ragged, Rows, flags, lengths_of, require_column, require_flags
from unmask.contracts import SpecialIds, Truncate
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class SupervisedMLMCollator(CorruptingCollator):
    """Rows with a ``loss_mask`` or ``labels``, padded on the right; only answers are hidden, their special tokens included.

    Args:
        tokenizer: anything with the special ids.
        block_size: tokens of a row; a longer one loses its left, so that the last answer stays.
        noise_schedule: decides how much of the answers is hidden; as in ``DefaultMLMCollator``.
        truncate: ``"block"``, ``"max"`` or None.
        pad_to_multiple_of: round the width up.
        seed, low_discrepancy_times, times, pass_through: see ``CorruptingCollator``.

    Result: an ``MLMBatch``.
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: Any = None,
        truncate: Truncate | None = "max",
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
        check_truncate(truncate, block_size, 0, pad_to_multiple_of)
        self.block_size = block_size
        self.noise_schedule = noise_schedule
        self.truncate = truncate
        self.pad_to_multiple_of = pad_to_multiple_of

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        answers = _answers(rows, tokens)
        given = real_tokens(rows, tokens)
        tokens, answers = keep(tokens, given), keep(answers, given)
        lengths = lengths_of(tokens)
        rooms = [min(n, self.block_size) if self.truncate else n for n in lengths]
        width = width_of(max(rooms), self.block_size, self.truncate, self.pad_to_multiple_of)
        ids, real = pad(keep_end(tokens, rooms), width, cast(int, self.special.pad))
        answer = pad(keep_end(answers, rooms), width, 0)[0] != 0
        self.ordinary(ids)
        return Assembled(ids, real, real & answer & (ids != self.special.mask))


def _answers(rows: Rows, tokens: Ragged) -> Ragged:
    """Tokens of answers, by ``loss_mask``, by ``labels``, or by both."""
    labelled = hideable(rows, tokens, special_tokens=False)
    if labelled is not None and flags(rows, "loss_mask") is None:
        return labelled
    answers = require_flags(rows, "loss_mask")
    if lengths_of(tokens) != lengths_of(answers):
        raise ValueError("Each row's 'loss_mask' must be as long as its 'input_ids': 1 = part of an answer, 0 = given.")
    return answers if labelled is None else [a & b for a, b in zip(answers, labelled, strict=True)]
