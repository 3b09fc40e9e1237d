"""Rows with holes, as editors and scripts write them, and their context trimmed to what the network takes.

    {"before": …, "after": …}     one blank of unknown length between two texts
    {"prefix": …, "suffix": …}    the same
    {"text": …}                   a text with the mask token at each blank

All other fields, such as ``id``, are carried to the result unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unmask.contracts import MLMModel
from unmask.data.prompts import Prompt
from unmask.data.tokenizing.token_bytes import parts_of_characters
from unmask.data.tokenizing.tokenizers import Tokenizer

AROUND = (("before", "after"), ("prefix", "suffix"))
"""Names of the fields around a blank."""
_RESULTS = ("steps", "blanks")


@dataclass(frozen=True)
class Hole:
    """A row to fill.

    Attributes:
        prompt: the text, divided at its blanks.
        row: the row as it was given.
        is_open: True = one blank of unknown length between two texts.
    """

    prompt: Prompt
    row: Mapping[str, Any]
    is_open: bool

    @classmethod
    def of(cls, tokenizer: Tokenizer, row: Mapping[str, Any], where: str) -> Hole:
        """Read a row.

        Args:
            tokenizer: the tokenizer.
            row: the row.
            where: place of the row, for error messages.

        Raises:
            ValueError: missing, contradictory or reserved fields, or a field that is no string.
        """
        forms = [names for names in (*AROUND, ("text",)) if any(name in row for name in names)]
        if len(forms) != 1 or any(name not in row for name in forms[0]):
            fields = ", ".join(map(repr, row)) or "none"
            raise ValueError(
                f'{where} has the fields {fields}. Give {{"before": …, "after": …}} or {{"prefix": …, "suffix": …}} for one blank '
                f'of unknown length, or {{"text": …}} with {tokenizer.mask_token} at each blank.'
            )
        names: tuple[str, ...] = forms[0]
        for name in names:
            if not isinstance(row[name], str):
                raise ValueError(f"{where}: the field {name!r} is {row[name]!r}, and must be a string.")
        is_open = len(names) == 2
        reserved = (*_RESULTS, "text", "filling") if is_open else (*_RESULTS, "prompt")
        if taken := [name for name in reserved if name in row]:
            raise ValueError(f"{where}: the field {taken[0]!r} is a field of the result. Rename it in the input.")
        prompt = (
            Prompt.between(tokenizer, row[names[0]], row[names[1]]) if is_open else Prompt.of(tokenizer, row["text"])
        )
        return cls(prompt, row, is_open)

    def trimmed(self, limit: int | None, longest: int) -> Hole:
        """Return the row with the ids of its context trimmed at both ends, so that no row exceeds ``limit`` tokens.

        The text is kept whole: only the input of the network is trimmed. The left context keeps at least half of the room.

        Args:
            limit: largest number of tokens; None = no limit.
            longest: largest number of tokens of one blank.

        Raises:
            ValueError: the blanks, and the text between them, exceed ``limit``.
        """
        ids, blanks = self.prompt.ids, self.prompt.blanks
        if limit is None or not blanks or len(ids) + len(blanks) * (longest - 1) <= limit:
            return self
        first, last = blanks[0], blanks[-1]
        room = limit - (last + 1 - first) - len(blanks) * (longest - 1)
        if room < 0:
            raise ValueError(
                f"The blanks and the text between them take {limit - room} tokens, and the max_length of this model is {limit}. "
                "Lower --longest, or divide the text."
            )
        after = min(len(ids) - last - 1, max(room // 2, room - first))
        context = ids[:first][max(0, first - (room - after)) :]
        parts = parts_of_characters(self.prompt.tokenizer)
        while context and parts.get(context[0], b" ")[0] & 0xC0 == 0x80:  # a row never begins inside a character
            context = context[1:]
        kept = [*context, *ids[first : last + 1], *ids[last + 1 : last + 1 + after]]
        return replace(self, prompt=replace(self.prompt, ids=kept))

    def result(self, text: str) -> dict[str, Any]:
        """Return the fields of a ``Filling`` for a filled text: the row, and the filling of an open hole."""
        filling = text[len(self.prompt.given[0]) : len(text) - len(self.prompt.given[-1])] if self.is_open else None
        return {"row": self.row, "filling": filling}


def read_holes(tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]]) -> list[Hole]:
    """Read rows.

    Raises:
        ValueError: as in :meth:`Hole.of`.
    """
    return [Hole.of(tokenizer, row, f"Row {number}") for number, row in enumerate(rows, start=1)]


def max_length_of(model: MLMModel) -> int | None:
    """Return the largest number of tokens of a network; None = no limit."""
    limit = getattr(model, "max_length", None)
    return limit if isinstance(limit, int) else None
