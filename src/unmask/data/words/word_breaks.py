"""Where words begin between two tokens, as a table over the kinds of tokens.

Whether a word boundary lies between two tokens mostly follows from how the first ends and how the second begins. So the rules of
``unmask.data.words.boundaries`` are applied once to every pair of *kinds*, with an example of each:

    how a token ends      its last character's class; for one that joins only with a neighbour on either side (``.`` in 3.14),
                          the class before it too
    how a token begins    likewise, with the class after it

White space begins the word after it, as tokenizers have it; a line's end is a word of its own. Combining marks and joiners belong
to the character before them.
Some answers need more than two tokens: the table says which, and ``unmask.data.words.text_words`` finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.data.words.boundaries import MARKS, PICTURE, class_of, word_boundaries

# What a pair of kinds says of the border between them.
JOINED, BROKEN, MIDDLE, LOOSE, UNKNOWN = range(5)  # odd = broken, as far as is seen
# MIDDLE: the second token is one of _MIDDLES alone, and the token after it decides. LOOSE: broken, unless such a middle joins.

_SPACES, _FLAG, _MIDDLES = (" ", "\n"), "🇩", (":", ",", ".", "'", '"')
_CLASSES = ("a", "א", "1", "ア", "_", *_SPACES, _FLAG, "!", *_MIDDLES)  # an example each
_EXAMPLES = {class_of(ord(example)): example for example in _CLASSES}

# A kind is an example text; the others have none.
MARK, INSIDE, PART = "mark", "inside a character", "part of a character"
_BEGINS = [*_CLASSES, *(m + c for m in _MIDDLES for c in _CLASSES), MARK, INSIDE, PART]
_ENDS = [*_CLASSES, *(c + m for m in _MIDDLES for c in _CLASSES), MARK, PART]
_BEGIN = {kind: number for number, kind in enumerate(_BEGINS)}
_END = {kind: number for number, kind in enumerate(_ENDS)}
N_BEGINS = len(_BEGINS)
NEWLINE_BEGINS, NEWLINE_ENDS = _BEGIN["\n"], _END["\n"]
MARK_ENDS = _END[MARK]


class TokenKinds(NamedTuple):
    """What kinds of tokens say of the borders between them; the same for all vocabularies.

    Attributes:
        pairs: uint8 ``[ends * begins]``: JOINED, BROKEN, MIDDLE, UNKNOWN or LOOSE by ``end * N_BEGINS + begin``.
        middles: uint8 ``[ends, begins, begins]`` by an end, a middle alone, and what begins after it: 1 = joined before the
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
    asked = [(end, begin) for end in _ENDS if end not in (MARK, PART) for begin in written if begin[0] not in _SPACES]
    for (end, begin), broken in zip(asked, _broken(asked), strict=True):
        if not end == begin[0] == _FLAG:  # flags pair up: how many came before counts
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


def _broken(asked: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
    """Whether a boundary lies between the two texts of each pair."""
    texts = list(asked)
    places = np.cumsum([1 + len(first) + len(second) for first, second in texts]) - [len(second) for _, second in texts]
    text = "".join(f"\n{first}{second}" for first, second in texts)
    return word_boundaries(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"))[places]


def kinds_of(token: bytes) -> tuple[int, int]:
    """How a token's text begins and ends: numbers of the two kinds. It may hold parts of characters at either end."""
    bare = token.lstrip(bytes(range(0x80, 0xC0)))
    inside = len(bare) < len(token)
    try:
        text, whole = bare.decode(), True
    except UnicodeDecodeError as error:
        if error.end < len(bare) or error.reason != "unexpected end of data":
            return _BEGIN[INSIDE if inside else PART], _END[PART]
        text, whole = bare[: error.start].decode(), False
    begin = INSIDE if inside else _begin(text, whole)
    end = _end(text) if whole else PART
    if (end in _MIDDLES and begin != end) or (inside and end == MARK):
        end = PART  # what stands before it is in another token, where the table does not look
    return _BEGIN[begin], _END[end]


def _kind(character: str) -> str:
    bits = class_of(ord(character))
    return MARK if bits & MARKS else _EXAMPLES[bits & ~PICTURE]


def _begin(text: str, whole: bool) -> str:
    kinds = map(_kind, text)
    first = next(kinds, PART)
    if first not in _MIDDLES:
        return first
    following = next((kind for kind in kinds if kind != MARK), None)
    return first + following if following is not None else first if whole else PART


def _end(text: str) -> str:
    if not text or text.endswith("\u200d"):  # a joiner may join two pictures
        return PART
    kinds = (kind for kind in map(_kind, reversed(text)) if kind != MARK)
    last = next(kinds, MARK)
    return next(kinds, "") + last if last in _MIDDLES else last
