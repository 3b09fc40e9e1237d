"""Unicode word boundaries (UAX #29) of a text, computed for all characters at once.

The Word_Break property of a character comes from the ``regex`` library. Its own ``\\b`` is slower and departs from the rules at
apostrophes and lone flags. Rule numbers (WB5 ...) are those of the annex.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import regex
from numpy.typing import NDArray

# Classes are bits, so that a rule can test for several at once.
LETTER, HEBREW, DIGIT, KATAKANA, UNDERSCORE, SPACE, NEWLINE, FLAG, OTHER, PICTURE, MARK, JOINER = (
    1 << bit for bit in range(12)
)
BETWEEN_LETTERS, BETWEEN_DIGITS, BETWEEN_EITHER, QUOTE, DOUBLE_QUOTE = (1 << bit for bit in range(12, 17))
MARKS = MARK | JOINER

_PATTERNS = {
    NEWLINE: r"[\p{WB=CR}\p{WB=LF}\p{WB=Newline}]", SPACE: r"\p{White_Space}", LETTER: r"\p{WB=ALetter}", HEBREW: r"\p{WB=Hebrew_Letter}",
    DIGIT: r"\p{WB=Numeric}", KATAKANA: r"\p{WB=Katakana}", UNDERSCORE: r"\p{WB=ExtendNumLet}", FLAG: r"\p{WB=Regional_Indicator}",
    BETWEEN_LETTERS: r"\p{WB=MidLetter}", BETWEEN_DIGITS: r"\p{WB=MidNum}", BETWEEN_EITHER: r"\p{WB=MidNumLet}",
    QUOTE: r"\p{WB=Single_Quote}", DOUBLE_QUOTE: r"\p{WB=Double_Quote}", JOINER: r"\p{WB=ZWJ}", MARK: r"[\p{WB=Extend}\p{WB=Format}]",
    OTHER: r"(?s:.)",
}  # fmt: skip
_CLASS = regex.compile("|".join(f"(?P<c{bits}>{pattern})" for bits, pattern in _PATTERNS.items()), regex.VERSION1)
_PICTURE = regex.compile(r"\p{Extended_Pictographic}", regex.VERSION1)


@lru_cache(maxsize=2**16)
def class_of(code: int) -> int:
    """Return the class bits of a code point; PICTURE may be combined with another class."""
    character = chr(code)
    match = _CLASS.match(character)
    assert match is not None and match.lastgroup is not None
    return int(match.lastgroup[1:]) | (PICTURE if _PICTURE.match(character) else 0)


def classes(codes: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Return the class bits of every code point, int32 ``[n]``."""
    different, inverse = np.unique(codes, return_inverse=True)
    return np.array([class_of(int(code)) for code in different], dtype=np.int32)[inverse.reshape(-1)]


def word_boundaries(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Locate the word boundaries of a text.

    Args:
        codes: code points, ``[n]``.

    Returns:
        bool ``[n]``, True = a boundary before this character; the first is True.
    """
    kinds = classes(codes)
    broken = np.ones(len(kinds), dtype=bool)
    mark = (kinds & MARKS) != 0
    previous = kinds[:-1]
    # WB3c: a joiner and a picture. WB4: marks belong to the character before them, unless it is a line end.
    broken[1:] = ~((previous & JOINER != 0) & (kinds[1:] & PICTURE != 0)) & ~(mark[1:] & (previous & NEWLINE == 0))
    kept = np.flatnonzero(~mark)
    if len(kept):
        broken[kept[1:]] &= ~_joined(kinds[kept])
    return broken


def _joined(kinds: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return whether each character but the first joins the one before it; marks are already removed."""
    padded = np.concatenate([[NEWLINE], kinds, [NEWLINE]])
    before, left, right, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]

    def meet(first: int, second: int) -> NDArray[np.bool_]:
        both: NDArray[np.bool_] = (left & first != 0) & (right & second != 0)
        return both

    def across(outer: int, middle: int) -> NDArray[np.bool_]:
        ends, begins = meet(outer, middle) & (after & outer != 0), meet(middle, outer) & (before & outer != 0)
        either: NDArray[np.bool_] = ends | begins
        return either

    letters, words = LETTER | HEBREW, LETTER | HEBREW | DIGIT
    joined = meet(words, words)  # WB5, 8, 9, 10
    joined |= across(letters, BETWEEN_LETTERS | BETWEEN_EITHER | QUOTE)  # WB6, 7
    joined |= meet(HEBREW, QUOTE) | across(HEBREW, DOUBLE_QUOTE)  # WB7a, b, c
    joined |= across(DIGIT, BETWEEN_DIGITS | BETWEEN_EITHER | QUOTE)  # WB11, 12
    joined |= meet(KATAKANA, KATAKANA)  # WB13
    joined |= meet(words | KATAKANA | UNDERSCORE, UNDERSCORE) | meet(UNDERSCORE, words | KATAKANA)  # WB13a, b
    flags = kinds & FLAG != 0
    if flags.any():  # WB15, 16: flags pair up
        place = np.arange(len(kinds))
        since = place - np.maximum.accumulate(np.where(flags, -1, place))  # flags in a row up to here
        joined |= (flags & (since % 2 == 0))[1:]
    return joined
