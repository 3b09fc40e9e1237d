"""Rows for supervised fine-tuning: locate the tokens of a chat's answers.

``SupervisedMLMCollator``, the collator of these rows, is importable from here as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from unmask.collate.answers import SupervisedMLMCollator

__all__ = ["SupervisedMLMCollator", "chat_row"]

Messages = Sequence[Mapping[str, str]]


class ChatTokenizer(Protocol):
    """A tokenizer with a chat template, as in transformers.

    Examples:
        >>> class Letters:
        ...     chat_template = "{role}: {content};"
        ...     def apply_chat_template(self, messages, *, tokenize, add_generation_prompt):
        ...         text = "".join(f"{m['role'][0]}:{m['content']};" for m in messages)
        ...         return [ord(letter) for letter in text + "a:" * add_generation_prompt]
        >>> chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
        >>> sum(chat_row(chat, Letters())["loss_mask"])
        3
    """

    chat_template: Any

    def apply_chat_template(self, messages: list[Any], /, *, tokenize: bool, add_generation_prompt: bool) -> Any:
        """Return the ids of the messages, or a mapping with ``input_ids``."""
        ...


def chat_row(messages: Messages, tokenizer: ChatTokenizer, answer_role: str = "assistant") -> dict[str, list[int]]:
    """Tokenise a chat and mark the tokens of its answers.

    The tokens of a message are those that the template appends with the message. The header before an answer (the
    generation prompt) counts as given, so an answer consists of its text and its end of turn.

    Args:
        messages: ``{"role", "content"}`` mappings in order.
        tokenizer: a tokenizer with a chat template, as in transformers.
        answer_role: role of the messages that are answers.

    Returns:
        A row for ``SupervisedMLMCollator``: ``{"input_ids", "loss_mask"}``, lists of equal length.

    Raises:
        ValueError: there is no template or no answer, or the template rewrites earlier messages when later ones follow.

    Examples:
        >>> from unmask import chat_row
        >>> class Letters:
        ...     chat_template = "{role}: {content};"
        ...     def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        ...         text = "".join(f"{m['role'][0]}:{m['content']};" for m in messages)
        ...         return [ord(letter) for letter in text + "a:" * add_generation_prompt]
        >>> row = chat_row([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], Letters())
        >>> "".join(chr(id) for id, answer in zip(row["input_ids"], row["loss_mask"]) if answer)
        'yo;'
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(
            f"This tokenizer ({type(tokenizer).__name__}) has no chat template, which converts messages to text. Use "
            "the tokenizer of a chat model, set tokenizer.chat_template, or build rows of prompt_ids and target_ids."
        )
    if not any(message["role"] == answer_role for message in messages):
        raise ValueError(
            f"The chat has no message of role {answer_role!r}, so there is no answer to train on. Drop it, or pass "
            "another answer_role."
        )

    def tokens(count: int, generation: bool = False) -> list[int]:
        if count == 0 and not generation:
            return []
        ids = tokenizer.apply_chat_template(list(messages[:count]), tokenize=True, add_generation_prompt=generation)
        return list(ids["input_ids"] if isinstance(ids, Mapping) else ids)

    input_ids = tokens(len(messages))
    loss_mask = [0] * len(input_ids)
    for number, message in enumerate(messages):
        if message["role"] != answer_role:
            continue
        start, stop = tokens(number, generation=True), tokens(number + 1)
        if input_ids[: len(stop)] != stop or stop[: len(start)] != start:
            raise ValueError(
                "The chat template changes earlier text when a message is appended, so the tokens of an answer cannot "
                "be located. Use a template that only appends, or rows of prompt_ids and target_ids."
            )
        loss_mask[len(start) : len(stop)] = [1] * (len(stop) - len(start))
    return {"input_ids": input_ids, "loss_mask": loss_mask}
