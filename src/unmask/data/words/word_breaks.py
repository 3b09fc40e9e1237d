"""Word boundaries between two tokens, as a table over kinds of tokens.

A word boundary between two tokens mostly depends on the end of the first and the beginning of the second. The rules of
``unmask.data.words.boundaries`` are therefore applied once to every pair of *kinds*, with an example of each:

    end of a token         class of its last character; for a character that joins only between neighbours (``.`` in 3.14),
                           also the class before it
    beginning of a token   likewise, with the class after it

White space belongs to the word after it, as in tokenizers; a line end is a word of its own. Combining marks and joiners belong
to the character before them. Some boundaries depend on more than two tokens: the table marks them, and
``unmask.data.words.text_words`` resolves them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.data.words.boundaries import MARKS, PICTURE, class_of, word_boundaries

# The boundary between a pair of kinds.
JOINED, BROKEN, MIDDLE, LOOSE, UNKNOWN = range(5)  # odd = broken, judged by the pair
# MIDDLE: the second token is a single one of _MIDDLES, so the next token decides. LOOSE: broken, unless such a middle joins.

_SPACES, _FLAG, _MIDDLES = (" ", "\n"), "🇩", (":", ",", ".", "'", '"')
_CLASSES = ("a", "א", "1", "ア", "_", *_SPACES, _FLAG, "!", *_MIDDLES)  # one example each
_EXAMPLES = {class_of(ord(example)): example for example in _CLASSES}

# A kind is represented by an example text; these three have no example.
MARK, INSIDE, PART = "mark", "inside a character", "part of a character"
_BEGINS = [*_CLASSES, *(m + c for m in _MIDDLES for c in _CLASSES), MARK, INSIDE, PART]
_ENDS = [*_CLASSES, *(c + m for m in _MIDDLES for c in _CLASSES), MARK, PART]
_BEGIN = {kind: number for number, kind in enumerate(_BEGINS)}
_END = {kind: number for number, kind in enumerate(_ENDS)}
N_BEGINS = len(_BEGINS)
NEWLINE_BEGINS, NEWLINE_ENDS = _BEGIN["\n"], _END["\n"]
MARK_ENDS = _END[MARK]


class TokenKinds(NamedTuple):
    """Word boundaries between kinds of tokens; the same for all vocabularies.

    Attributes:
        pairs: uint8 ``[ends * begins]``: JOINED, BROKEN, MIDDLE, UNKNOWN or LOOSE by ``end * N_BEGINS + begin``.
        middles: uint8 ``[ends, begins, begins]`` by an end, a single middle, and the beginning after it: 1 = joined before the
            middle, 2 = joined after it, 3 = both.
    """

    pairs: NDArray[np.uint8]
    middles: NDArray[np.uint8]


@lru_cache
def token_kinds() -> TokenKinds:
    """Apply the rules to every pair of kinds, and to every triple around a middle."""
    written = [begin for begin in _BEGINS if begin not in (MARK, INSIDE, PART)]
    pairs = np.full((len(_ENDS), N_BEGINS), UNKNOWN, dtype=np.uint8)
    pairs[:, _BEGIN[INSIDE]] = JOINED
    pairs[:, [_BEGIN[begin] for begin in written if begin[0] in _SPACES]] = BROKEN
    others = [(end, begin) for end in _ENDS if end not in (MARK, PART) for begin in written if begin[0] not in _SPACES]
    for (end, begin), broken in zip(others, _broken(others), strict=True):
        if not end == begin[0] == _FLAG:  # flags pair up, so the number of flags before them matters
            alone = end in _MIDDLES or begin in _MIDDLES
            pairs[_END[end], _BEGIN[begin]] = LOOSE if broken and alone else broken
    pairs[_END[" "], [begin[0] not in _SPACES for begin in _BEGINS]] = JOINED
    marked = [
        (end, "\u0301") for end in _ENDS if end not in (MARK, PART, *_MIDDLES)
    ]  # after a middle the mark hides what follows
    for (end, _), broken in zip(marked, _broken(marked), strict=True):
        pairs[_END[end], _BEGIN[MARK]] = broken

    middles = np.zeros((len(_CLASSES), len(_CLASSES), N_BEGINS), dtype=np.uint8)
    triples = [
        (end, middle, begin) for end in _CLASSES if end not in _MIDDLES for middle in _MIDDLES for begin in written
    ]
    before = _broken((end, middle + begin) for end, middle, begin in triples)
    after = _broken((end + middle, begin) for end, middle, begin in triples)
    for (end, middle, begin), first, second in zip(triples, before, after, strict=True):
        e, m = _END[end], _BEGIN[middle]
        middles[e, m, _BEGIN[begin]] = (not first) + 2 * (not second)
        if not (first and second):
            pairs[e, m] = MIDDLE
    return TokenKinds(pairs.reshape(-1), middles)


def _broken(pairs: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
    """Return whether a boundary lies between the two texts of each pair."""
    texts = list(pairs)
    index = np.cumsum([1 + len(first) + len(second) for first, second in texts]) - [len(second) for _, second in texts]
    text = "".join(f"\n{first}{second}" for first, second in texts)
    broken: NDArray[np.bool_] = word_boundaries(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"))[index]
    return broken


def kinds_of(token: bytes) -> tuple[int, int]:
    """Return the kinds of a token's beginning and end; either end may be part of a character."""
    bare = token.lstrip(bytes(range(0x80, 0xC0)))
    inside = len(bare) < len(token)
    try:
        text, complete = bare.decode(), True
    except UnicodeDecodeError as error:
        if error.end < len(bare) or error.reason != "unexpected end of data":
            return _BEGIN[INSIDE if inside else PART], _END[PART]
        text, complete = bare[: error.start].decode(), False
    begin = INSIDE if inside else _begin(text, complete)
    end = _end(text) if complete else PART
    if (end in _MIDDLES and begin != end) or (inside and end == MARK):
        end = PART  # the character before it is in another token, which the table does not cover
    return _BEGIN[begin], _END[end]


def _kind(character: str) -> str:
    bits = class_of(ord(character))
    return MARK if bits & MARKS else _EXAMPLES[bits & ~PICTURE]


def _begin(text: str, complete: bool) -> str:
    kinds = map(_kind, text)
    first = next(kinds, PART)
    if first not in _MIDDLES:
        return first
    following = next((kind for kind in kinds if kind != MARK), None)
    return first + following if following is not None else first if complete else PART


def _end(text: str) -> str:
    if not text or text.endswith("\u200d"):  # a joiner may join two pictures
        return PART
    kinds = (kind for kind in map(_kind, reversed(text)) if kind != MARK)
    last = next(kinds, MARK)
    return next(kinds, "") + last if last in _MIDDLES else last
