"""Prompts with masks, and the same text with the masks filled.

The text around a mask is copied from the prompt and never decoded from ids. Case, unknown characters and spaces
therefore survive unchanged under every tokenizer. Only the filling is decoded:

    text[:mask_start] + filling + text[mask_end:]

After a space in the text, the space at the start of a filling is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from unmask.data.row_encoding import chat_tokenizer
from unmask.data.tokenizing.tokenizers import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A text, divided at its masks.

    Attributes:
        tokenizer: tokenizer of the text.
        given: the text before, between and after the masks, as it was written; one string more than masks.
        ids: ids of the text, masks included.
    """

    tokenizer: Tokenizer
    given: tuple[str, ...]
    ids: list[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> Prompt:
        """Divide a text at the literal mask token."""
        given = (text,) if tokenizer.mask_token is None else tuple(text.split(tokenizer.mask_token))
        return cls(tokenizer, given, tokenizer.encode(text, allow_mask=True))

    @classmethod
    def chat(cls, tokenizer: Tokenizer, messages: list[dict[str, str]]) -> Prompt:
        """Apply the chat template of the tokenizer to messages, up to the header of the answer.

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        chat = chat_tokenizer(tokenizer)
        text = chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = chat.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        return cls(tokenizer, (text,), [int(id) for id in (ids["input_ids"] if isinstance(ids, Mapping) else ids)])

    @property
    def text(self) -> str:
        """The text with its masks."""
        return (self.tokenizer.mask_token or "").join(self.given)

    @classmethod
    def between(cls, tokenizer: Tokenizer, before: str, after: str) -> Prompt:
        """Return the prompt of one blank between two texts; a mask token inside the texts is text."""
        return cls(tokenizer, (before, after), tokenizer.encode_around_masks([before, after]))

    @property
    def pieces(self) -> list[list[int]]:
        """The ids before, between and after the masks; one list more than masks."""
        edges = [-1, *self.blanks, len(self.ids)]
        return [self.ids[a + 1 : b] for a, b in pairwise(edges)]

    @property
    def blanks(self) -> list[int]:
        """The index of each mask among the ids."""
        return (
            [index for index, id in enumerate(self.ids) if id == self.tokenizer.mask_token_id]
            if len(self.given) > 1
            else []
        )

    def filled(self, row: Sequence[int]) -> str:
        """Return the text with its masks filled, followed by any continuation.

        Args:
            row: the ids of the prompt with other ids at the masks, and any number of ids after them.
        """
        fillings = [[row[index]] for index in self.blanks]
        return self.filled_with([*fillings, row[len(self.ids) :]])

    def filled_with(self, fillings: Sequence[Sequence[int]]) -> str:
        """Return the text with ``fillings[i]`` at mask ``i``, ending at the first EOS of a filling.

        Args:
            fillings: ids for each mask; one filling more continues the text.
        """
        given = [*self.given, *[""] * (len(fillings) + 1 - len(self.given))]
        assert len(given) == len(fillings) + 1, "one filling for each mask, and at most one continuation"
        text, open_ids, eos = given[0], list[int](), self.tokenizer.eos_token_id
        for filling, following in zip(fillings, given[1:], strict=True):
            ended = eos is not None and eos in filling
            open_ids += filling if eos is None or not ended else filling[: list(filling).index(eos)]
            if not following and not ended:
                continue  # adjacent masks are decoded together, as the bytes of one character may span several tokens
            text += added_text(self.tokenizer, text, open_ids)
            if ended:
                return text
            text, open_ids = text + following, []
        return text + added_text(self.tokenizer, text, open_ids)


def added_text(tokenizer: Tokenizer, before: str, ids: Sequence[int]) -> str:
    """Return the text that tokens add after a given text, with exactly one space where a space belongs.

    Args:
        tokenizer: tokenizer of both texts.
        before: the text before the tokens.
        ids: the tokens.
    """
    if not ids:
        return ""
    if not tokenizer.writes_spaces:
        return _joined(tokenizer, before, ids)
    if not before:
        text = tokenizer.decode(ids)
        return text.removeprefix(" ") if tokenizer.begins_with_a_space else text
    text = tokenizer.decode_behind(ids)
    if before.endswith(" ") and text.startswith(" ") and (tokenizer.mask_takes_space or not text[1:2].isspace()):
        return text[1:]
    return text


def _joined(tokenizer: Tokenizer, before: str, ids: Sequence[int]) -> str:
    """Return the text of word-piece tokens, with a space only where two words would otherwise merge."""
    text = before
    for id in ids:
        piece = tokenizer.decode_behind([id])
        word = piece.removeprefix(" ")
        last = text.split()[-1] if text and not text[-1].isspace() else ""
        separate = piece != word and last and tokenizer.encode(last + word) != [*tokenizer.encode(last), id]
        text += f" {word}" if separate else word
    return text[len(before) :]
