"""A prompt with blanks, and the same text with the blanks filled.

The text round a blank is the user's. It is cut out of the string that was given and never decoded from ids, so case, unknown
characters and spaces come back letter for letter, whatever the tokenizer makes of them. Only the filling is decoded:

    text[:blank] + filling + text[blank_end:]

Where the text has a space before the blank, a filling does not bring a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unmask.data.tokenizing.tokenizers import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A text, cut at its blanks.

    Attributes:
        tokenizer: of the text.
        given: the text before, between and behind the blanks, as it was written; one more than blanks.
        ids: of the text, with one mask for each blank.
    """

    tokenizer: Tokenizer
    given: tuple[str, ...]
    ids: list[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> Prompt:
        """Read a text in which the literal mask token marks the blanks."""
        given = (text,) if tokenizer.mask_token is None else tuple(text.split(tokenizer.mask_token))
        return cls(tokenizer, given, tokenizer.encode(text, allow_mask=True))

    @property
    def blanks(self) -> list[int]:
        """The place of each blank among the ids."""
        return (
            [place for place, id in enumerate(self.ids) if id == self.tokenizer.mask_token_id]
            if len(self.given) > 1
            else []
        )

    def filled(self, row: Sequence[int]) -> str:
        """The text with the blanks filled, and continued by what stands behind it.

        Args:
            row: the ids of the prompt with other ids at the blanks, and any number of ids after them.
        """
        fillings = [[row[place]] for place in self.blanks]
        return self.filled_with([*fillings, row[len(self.ids) :]])

    def filled_with(self, fillings: Sequence[Sequence[int]]) -> str:
        """The text with ``fillings[i]`` at blank ``i``; one filling more continues the text. It ends at the first EOS of a filling."""
        given = [*self.given, *[""] * (len(fillings) + 1 - len(self.given))]
        assert len(given) == len(fillings) + 1, "a filling for each blank, and one at the end at most"
        text, open_ids, eos = given[0], list[int](), self.tokenizer.eos_token_id
        for filling, behind in zip(fillings, given[1:], strict=True):
            ended = eos is not None and eos in filling
            open_ids += filling if eos is None or not ended else filling[: list(filling).index(eos)]
            if not behind and not ended:
                continue  # neighbouring blanks are decoded together: a character may have its bytes in several
            text += added_text(self.tokenizer, text, open_ids)
            if ended:
                return text
            text, open_ids = text + behind, []
        return text + added_text(self.tokenizer, text, open_ids)


def added_text(tokenizer: Tokenizer, before: str, ids: Sequence[int]) -> str:
    """What tokens add to a text that is given: their own text, after the one space that ``before`` already has or they need."""
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
    """The text of tokens that are words or pieces of words, with a space only where two would be read as one."""
    text = before
    for id in ids:
        piece = tokenizer.decode_behind([id])
        word = piece.removeprefix(" ")
        last = text.split()[-1] if text and not text[-1].isspace() else ""
        non_adjacent = piece != word and last and tokenizer.encode(last + word) != [*tokenizer.encode(last), id]
        text += f" {word}" if non_adjacent else word
    return text[len(before) :]
