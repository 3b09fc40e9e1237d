"""Rows for supervised fine-tuning: which tokens of a chat are answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.collate.answers import SupervisedMLMCollator

__all__ = ["SupervisedMLMCollator", "chat_row"]

Messages = Sequence[Mapping[str, str]]


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
        raise ValueError(
            f"A chat without a message of role {answer_role!r} has no answer to learn. Drop it, or name another answer_role."
        )

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
