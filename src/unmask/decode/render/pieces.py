"""The text of each token in its row.

A token decoded alone loses its context: the space before a word, the other bytes of a character. A token's
piece is the text that it appends to the decoded tokens before it. A token that leaves a character incomplete
has an empty piece; the token that completes it has the character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\ufffd"


class Pieces:
    """Splits rows of ids into pieces of text, with a cache.

    Args:
        tokenizer: anything with ``decode(ids, skip_special_tokens=False)``; None shows ids as numbers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._decoded: dict[tuple[int, ...], str] = {(): ""}

    def _decode(self, ids: tuple[int, ...]) -> str:
        if ids not in self._decoded:
            if self._tokenizer is None:
                self._decoded[ids] = "".join(f" {i}" for i in ids)
            else:
                self._decoded[ids] = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return self._decoded[ids]

    def __call__(self, ids: Sequence[int]) -> list[str]:
        """Return one piece per id; joined, they are the text of the row."""
        pieces: list[str] = []
        context, start = 0, 0  # ids[context:start] are decoded; from start on, a character may be incomplete
        for end in range(1, len(ids) + 1):
            before = self._decode(tuple(ids[context:start]))
            text = self._decode(tuple(ids[context:end]))
            if text.endswith(_UNFINISHED) and end < len(ids) and end - start < 4:
                pieces.append("")
                continue
            pieces.append(text[len(before) :] if text.startswith(before) else self._decode((ids[end - 1],)))
            context, start = start, end
        return pieces
