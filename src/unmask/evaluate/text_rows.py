"""Texts as rows to score: ids, the tokens to score, and the word and the characters of each.

A text may stand between two others, its context, which is given and never masked. The three are tokenised together, as one text, and a token belongs to
the scored text if it has a character of it. Special tokens (unknown words, [CLS], [SEP]) are context too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unmask.contracts import SpecialIds
from unmask.data.words.token_words import tokenize_with_words


@runtime_checkable
class TextTokenizer(Protocol):
    """A tokenizer with Hugging Face's attributes for special ids (``SpecialIds.of``)."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        ...


class InContext(NamedTuple):
    """A text to score between two given ones.

    Attributes:
        text: the scored text.
        before, after: its context.
        id: name of the row, such as ``texts.jsonl:3``.

    Examples:
        >>> InContext("Paris", before="The capital of France is ").after
        ''
    """

    text: str
    before: str = ""
    after: str = ""
    id: str = ""


@dataclass(frozen=True, eq=False)
class TextRow:
    """One text as a row of ``n`` tokens.

    Attributes:
        id, text: name of the row, and the scored text.
        ids: int64 ``[n]``.
        scored: bool ``[n]``, the tokens to score.
        unscored: number of special tokens inside the text, such as unknown words.
        exact: whether the tokens decode to the text with its context.
        words: int64 ``[n]``, number of each token's word; None without a tokenizer that tells.
        pieces: the text of each token.
        n_bytes: UTF-8 bytes of the text.
    """

    id: str
    text: str
    ids: NDArray[np.int64]
    scored: NDArray[np.bool_]
    unscored: int
    exact: bool
    words: NDArray[np.int64] | None
    pieces: list[str]
    n_bytes: int


def rows_of_texts(tokenizer: TextTokenizer, texts: Sequence[InContext], *, template: bool = False) -> list[TextRow]:
    """Tokenise texts with their context.

    Args:
        tokenizer: a ``Tokenizer``; of another one, the words of tokens are unknown and a context is refused.
        texts: the texts.
        template: add the special tokens of the tokenizer's own template ([CLS], [SEP]) as context.

    Raises:
        ValueError: a text that is not valid Unicode.
    """
    special = SpecialIds.of(tokenizer)
    if getattr(tokenizer, "backend", None) is None:
        return [_without_words(tokenizer, special, each) for each in texts]
    complete = [before + text + after for text, before, after, _ in texts]
    rows = []
    for (text, before, _, id), whole, found in zip(
        texts, complete, tokenize_with_words(tokenizer, complete, template=template), strict=True
    ):
        start, stop = len(before), len(before) + len(text)
        begin, end = found.offsets.T
        inside = ~found.added & (end > start) & (begin < stop)
        ordinary = ~np.isin(found.ids, special.all)
        pieces = [whole[a:b] for a, b in found.offsets]
        exact = tokenizer.decode(found.ids[~found.added].tolist()) == whole
        unscored = int((inside & ~ordinary).sum())
        size = len(text.encode())
        rows.append(TextRow(id, text, found.ids, inside & ordinary, unscored, exact, found.words, pieces, size))
    return rows


def _without_words(tokenizer: TextTokenizer, special: SpecialIds, each: InContext) -> TextRow:
    if each.before or each.after:
        raise ValueError(
            f"A text with a context needs a tokenizer that tells the characters of its tokens, and {type(tokenizer).__name__} does not: load it "
            "with unmask.Tokenizer.load."
        )
    ids = np.array(tokenizer.encode(each.text), dtype=np.int64)
    ordinary = ~np.isin(ids, special.all)
    exact = tokenizer.decode(ids.tolist()) == each.text
    return row_of_ids(tokenizer, ids, ordinary, each.text, each.id, exact=exact)


def row_of_ids(
    tokenizer: Any,
    ids: NDArray[np.int64],
    scored: NDArray[np.bool_],
    text: str,
    id: str,
    *,
    exact: bool,
    n_bytes: int | None = None,
    unscored: int | None = None,
) -> TextRow:
    """Return ids that exist already as a row.

    The words of its tokens are those of ``text`` where it has the same ids, otherwise unknown.

    Args:
        tokenizer: of the ids.
        ids: int64 ``[n]``.
        scored: bool ``[n]``, the tokens to score.
        text: text of the ids.
        id: name of the row.
        exact: whether the ids spell the text.
        n_bytes: UTF-8 bytes of the text; None = those of ``text``.
        unscored: number of special tokens that are part of the text; None = all that are not scored.
    """
    words = None
    if getattr(tokenizer, "backend", None) is not None:
        found = tokenize_with_words(tokenizer, [text])[0]
        rest = ids[len(found.ids) :]
        if np.array_equal(found.ids, ids[: len(found.ids)]):  # an EOS may follow
            words = np.concatenate([found.words, found.words.max(initial=-1) + 1 + np.arange(len(rest))])
    spell = getattr(tokenizer, "token_text", lambda token: tokenizer.decode([token]))
    pieces = [spell(int(token)) for token in ids]
    missing = len(ids) - int(scored.sum()) if unscored is None else unscored
    size = len(text.encode()) if n_bytes is None else n_bytes
    return TextRow(id, text, ids, scored, missing, exact, words, pieces, size)
