"""Blanks as they are typed: the mask token, with a number of tokens or a range of them.

    [MASK]        one token
    [MASK:5]      five tokens
    [MASK:2-6]    two to six tokens, the length that the model finds likeliest

The number stands before the last character of the mask token: ``<mask:5>`` for ``<mask>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from unmask.data.prompts import Prompt
from unmask.data.tokenizing.tokenizers import Tokenizer

Range = tuple[int, int]
"""Smallest and largest number of tokens of a blank."""


@dataclass(frozen=True)
class TypedText:
    """A text with its blanks.

    Attributes:
        text: the text as typed.
        prompt: the text, divided at its blanks; one mask for each blank.
        ranges: smallest and largest number of tokens of each blank.
    """

    text: str
    prompt: Prompt
    ranges: tuple[Range, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> TypedText:
        """Read a text.

        Raises:
            ValueError: a blank of no token, or a range whose end is below its start.
        """
        mask = tokenizer.mask_token
        if mask is None or mask[:-1] not in text:
            return cls(text, Prompt.of(tokenizer, text), ())
        ranges: list[Range] = []

        def read(match: re.Match[str]) -> str:
            low = int(match[1] or 1)
            high = int(match[2] or low)
            if not 1 <= low <= high:
                raise ValueError(
                    f"The blank {match[0]} has no length: write {mask[:-1]}:5{mask[-1]} for five tokens, or {mask[:-1]}:2-6{mask[-1]} for "
                    "two to six."
                )
            ranges.append((low, high))
            return mask

        pattern = rf"{re.escape(mask[:-1])}(?::(\d{{1,6}})(?:-(\d{{1,6}}))?)?{re.escape(mask[-1])}"
        plain = re.sub(pattern, read, text, flags=re.ASCII)
        return cls(text, Prompt.of(tokenizer, plain), tuple(ranges))

    @property
    def is_open(self) -> bool:
        """True if the model chooses the length of a blank."""
        return any(low != high for low, high in self.ranges)

    @property
    def longest(self) -> int:
        """Largest number of tokens of all blanks together."""
        return sum(high for _, high in self.ranges)

    def at(self, lengths: tuple[int, ...]) -> Prompt:
        """Return the prompt with this many masks for each blank."""
        return at_lengths(self.prompt, lengths)


def at_lengths(prompt: Prompt, lengths: tuple[int, ...]) -> Prompt:
    """Return a prompt with ``lengths[i]`` adjacent masks for its mask ``i``."""
    mask = prompt.tokenizer.mask_token_id
    if not lengths or mask is None:
        return prompt
    ids, given = list(prompt.pieces[0]), [prompt.given[0]]
    for length, piece, text in zip(lengths, prompt.pieces[1:], prompt.given[1:], strict=True):
        ids += [mask] * length + piece
        given += [""] * (length - 1) + [text]
    return replace(prompt, ids=ids, given=tuple(given))
