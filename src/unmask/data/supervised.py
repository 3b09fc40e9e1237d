"""Supervised fine-tuning: loss on answers only, for rows of any shape and for chats.

A row is ``{"input_ids", "loss_mask"}``: the whole text, and 1 where a token belongs to an answer. ``{"input_ids", "labels"}`` is
the same with -100 where it does not. ``chat_row`` makes a row from messages through the tokenizer's own template. (A single prompt with its answer is a ``unmask.data.seq2seq`` row.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from unmask.contracts import SpecialIds, Truncate
from unmask.data.corrupting import Assembled, CorruptingCollator, diffusion_corruption
from unmask.data.given import hideable, keep, real_tokens
from unmask.data.layout import check_truncate, keep_end, pad, width_of
from unmask.data.rows import Ragged, Rows, flags, lengths_of, require_column, require_flags
from unmask.ops.times import Times
from unmask.randomness import low_discrepancy

Messages = Sequence[Mapping[str, str]]


class SupervisedMLMCollator(CorruptingCollator):
    """Rows with a ``loss_mask`` or ``labels``, padded on the right; only answers are hidden, their special tokens included.

    Args:
        tokenizer: anything with the special ids.
        block_size: tokens of a row; a longer one loses its left, so that the last answer stays.
        noise_schedule: decides how much of the answers is hidden; as in ``DefaultMLMCollator``.
        truncate: ``"block"``, ``"max"`` or None.
        pad_to_multiple_of: round the width up.
        seed, low_discrepancy_levels, times, pass_through: see ``CorruptingCollator``.

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
        low_discrepancy_levels: bool = True,
        times: Times = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(special, diffusion_corruption(special, noise_schedule), seed, low_discrepancy_levels, times, pass_through)
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


def chat_row(messages: Messages, tokenizer: Any, answer_role: str = "assistant") -> dict[str, list[int]]:
    """Tokens of a chat and which of them are answers.

    A message's tokens are what the template adds when the message is added; the header that the template writes before an
    answer (its generation prompt) is given, so what remains of an answer is its text and its end of turn.

    Args:
        messages: ``{"role", "content"}`` in order.
        tokenizer: one of transformers', with a chat template.
        answer_role: whose messages are answers.

    Returns:
        ``{"input_ids", "loss_mask"}``.

    Raises:
        ValueError: no template, no answer, or a template that rewrites earlier messages when later ones come.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(
            f"This tokenizer ({type(tokenizer).__name__}) has no chat template, so nothing says how messages become text. Use "
            "the tokenizer of a chat model, set tokenizer.chat_template, or make rows of prompt_ids and target_ids."
        )
    if not any(message["role"] == answer_role for message in messages):
        raise ValueError(f"A chat without a message of role {answer_role!r} has no answer to learn. Drop it, or name another answer_role.")

    def tokens(count: int, generation: bool = False) -> list[int]:
        if count == 0 and not generation:
            return []
        made = tokenizer.apply_chat_template(list(messages[:count]), tokenize=True, add_generation_prompt=generation)
        return list(made["input_ids"] if isinstance(made, Mapping) else made)

    whole = tokens(len(messages))
    loss_mask = [0] * len(whole)
    for number, message in enumerate(messages):
        if message["role"] != answer_role:
            continue
        start, stop = tokens(number, generation=True), tokens(number + 1)
        if whole[: len(stop)] != stop or stop[: len(start)] != start:
            raise ValueError(
                "The chat template does not only append: with a message more, the text before it changes, so the tokens of an "
                "answer cannot be told. Use a template that writes each message once, or rows of prompt_ids and target_ids."
            )
        loss_mask[len(start) : len(stop)] = [1] * (len(stop) - len(start))
    return {"input_ids": whole, "loss_mask": loss_mask}
