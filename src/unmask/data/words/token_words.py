"""Tokens of a text with their characters and their words, as the tokenizer itself reports them.

    words of the tokenizer    the pieces of its pre-tokenizer: WordPiece, byte-level BPE, ``▁``-BPE and Unigram
    white-space words         by the offsets of the tokens, where the pre-tokenizer knows no words: characters, bytes, or none

A token of white space alone belongs to the word after it. Tokens that the tokenizer's template adds around a text ([CLS], [SEP]) belong to none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_WORD = -1


class TokenizedText(NamedTuple):
    """The tokens of one text, with ``n`` tokens.

    Attributes:
        ids: int64 ``[n]``.
        offsets: int64 ``[n, 2]``, first character and the character after the last of each token.
        words: int64 ``[n]``, number of each token's word in the text, from 0; ``NO_WORD`` for tokens of the template.
        added: bool ``[n]``, the tokens that the template adds around the text.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    words: NDArray[np.int64]
    added: NDArray[np.bool_]


def tokenize_with_words(tokenizer: Any, texts: Sequence[str], *, template: bool = False) -> list[TokenizedText]:
    """Tokenise texts, and group the tokens into words.

    Args:
        tokenizer: a ``Tokenizer`` or another object with the ``backend`` of the ``tokenizers`` library.
        texts: the texts; special tokens spelled in them are text.
        template: add the special tokens of the tokenizer's own template around each text.

    Raises:
        ValueError: the tokenizer has no ``backend``, or a text is not valid Unicode.

    Examples:
        >>> from unmask import Tokenizer
        >>> tokenizer = Tokenizer.train(["a cat, a dog"], vocab_size=264)
        >>> tokenize_with_words(tokenizer, ["a cab"])[0].words.tolist()
        [0, 1, 1, 1]
    """
    backend = getattr(tokenizer, "backend", None)
    if backend is None:
        raise ValueError(
            f"Words of tokens need a tokenizer of the `tokenizers` library, and {type(tokenizer).__name__} is none: load it with "
            "unmask.Tokenizer.load."
        )
    try:
        encodings = backend.encode_batch(list(texts), add_special_tokens=template)
    except TypeError as error:  # a lone surrogate
        wrong = next((text for text in texts if any("\ud800" <= c <= "\udfff" for c in text)), "")
        raise ValueError(f"{wrong!r} is not valid Unicode text. Pass text in UTF-8.") from error
    own = knows_words(backend)
    found = []
    for text, encoding in zip(texts, encodings, strict=True):
        added = np.array(encoding.special_tokens_mask, dtype=bool)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        if own:
            labels = np.array([NO_WORD if word is None else word for word in encoding.word_ids], dtype=np.int64)
        else:
            labels = white_space_words(text, offsets)
        found.append(TokenizedText(np.array(encoding.ids, dtype=np.int64), offsets, _numbered(labels, added), added))
    return found


def knows_words(backend: Any) -> bool:
    """Return whether the pre-tokenizer of a tokenizer separates words, and keeps the letters of a word together.

    Args:
        backend: a ``tokenizers.Tokenizer``.
    """
    if backend.pre_tokenizer is None:
        return False
    pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str("ab cd")]
    return [("ab" in piece, "cd" in piece) for piece in pieces if "ab" in piece or "cd" in piece] == [
        (True, False),
        (False, True),
    ]


def white_space_words(text: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the white-space word of each token, int64 ``[n]``, from its characters.

    Args:
        text: the text.
        offsets: int64 ``[n, 2]``, the characters of each token.
    """
    visible = np.array([not character.isspace() for character in text], dtype=bool)
    begins = visible & ~np.concatenate([[False], visible[:-1]])
    word_of = np.cumsum(begins) - 1
    last = max(0, int(word_of[-1])) if len(text) else 0
    words = np.zeros(len(offsets), dtype=np.int64)
    for token, (start, stop) in enumerate(offsets):
        inside = np.flatnonzero(visible[start:stop])
        if len(inside):
            words[token] = word_of[start + inside[0]]
        else:  # white space: part of the word after it
            after = np.flatnonzero(visible[stop:])
            words[token] = word_of[stop + after[0]] if len(after) else last
    return words


def _numbered(labels: NDArray[np.int64], added: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number runs of equal labels from 0, without the tokens of the template."""
    words: NDArray[np.int64] = np.full(len(labels), NO_WORD, dtype=np.int64)
    kept = labels[~added]
    if len(kept):
        words[~added] = np.cumsum(np.concatenate([[0], kept[1:] != kept[:-1]]))
    return words
