"""Rows with labels: a text with one label, or words with a label each; their split into training and validation; their tokens.

    text     "The film is good."       label "positive"
    words    ["Ada", "is", "here"]     labels ["name", "other", "other"]

Words are joined by spaces and tokenised as one text, as the encoder saw its texts. The first token of a word carries its label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from unmask.data.corpus.readers import as_text, unknown_field
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.words.token_words import tokenize_with_words
from unmask.permutation import permute
from unmask.randomness import fold


@dataclass(frozen=True)
class LabelledRow:
    """A row to classify.

    Attributes:
        place: file and line, for error messages.
        text: the text; the words joined by spaces.
        words: the words; None for a text with one label.
        labels: one label, or one for each word; None where they are unknown.
        fields: further fields, carried to the output.
    """

    place: str
    text: str
    words: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    fields: Mapping[str, Any] | None = None

    @classmethod
    def of_text(cls, place: str, fields: Mapping[str, Any], text: str, label: str | None) -> LabelledRow:
        """Return the row of a text with one label.

        Args:
            place: file and line.
            fields: the row of the file.
            text: field of the text.
            label: field of the label; None = unlabelled.

        Raises:
            ValueError: a missing field, an empty text, or a label that is missing or a list.
        """
        words = as_text(_field(place, fields, text, "--text"), text, place, "Choose the text with --text.")
        if not words.strip():
            raise ValueError(
                f"{place}: the text in field '{text}' is empty, and nothing can be classified. Drop the row."
            )
        if label is None:
            return cls(place, words)
        return cls(place, words, None, (_as_label(place, _field(place, fields, label, "--label"), label),))

    @classmethod
    def of_words(cls, place: str, fields: Mapping[str, Any], text: str, label: str | None) -> LabelledRow:
        """Return the row of words with a label each, from lists or from texts with spaces.

        Args:
            place: file and line.
            fields: the row of the file.
            text: field of the words.
            label: field of their labels; None = unlabelled.

        Raises:
            ValueError: a missing field, no words, an empty word, or another number of labels than of words.
        """
        words = _as_list(place, _field(place, fields, text, "--text"), text)
        if not words or not all(isinstance(word, str) and word.strip() for word in words):
            raise ValueError(
                f"{place}: field '{text}' must hold words, none of them empty, as a list or as a text with spaces. Drop the row, or "
                "its empty words."
            )
        labels = None
        if label is not None:
            given = _as_list(place, _field(place, fields, label, "--label"), label)
            if len(given) != len(words):
                raise ValueError(
                    f"{place}: field '{text}' has {len(words)} words, and field '{label}' has {len(given)} labels. Give every word one label."
                )
            labels = tuple(_as_label(place, each, label) for each in given)
        return cls(place, " ".join(words), tuple(words), labels)


def _field(place: str, fields: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in fields:
        raise ValueError(unknown_field(f"{place}:", name, fields, f"Choose one with {option}."))
    return fields[name]


def _as_list(place: str, value: Any, field: str) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return [str(each) if isinstance(each, int) else each for each in value]
    raise ValueError(
        f"{place}: field '{field}' holds {type(value).__name__}, and --tokens needs a list, or a text with spaces, in it."
    )


def _as_label(place: str, value: Any, field: str) -> str:
    if isinstance(value, list | dict):
        raise ValueError(
            f"{place}: field '{field}' holds a {type(value).__name__}, and one label was expected. Add --tokens for lists of words with "
            "lists of labels."
        )
    if value is None or not str(value).strip():
        raise ValueError(f"{place}: field '{field}' holds no label. Drop the row, or give it one.")
    return str(value).strip()


def label_names(rows: Sequence[LabelledRow]) -> tuple[str, ...]:
    """Return the labels of training rows in order: integers by value, other labels by spelling.

    Raises:
        ValueError: fewer than two labels.

    Examples:
        >>> label_names([LabelledRow("", "a", labels=("10",)), LabelledRow("", "b", labels=("9",))])
        ('9', '10')
    """
    names = {label for row in rows for label in row.labels or ()}
    if len(names) < 2:
        found = f"all have the label {next(iter(names))!r}" if names else "none has a label"
        raise ValueError(
            f"A classifier needs rows of two or more labels; of the {len(rows)} training rows {found}. Add rows with another label, or "
            "choose its field with --label."
        )
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def hold_out(rows: Sequence[LabelledRow], fraction: float, seed: int) -> tuple[list[LabelledRow], list[LabelledRow]]:
    """Split rows into training and validation, with the same share of every label of texts.

    Rows are ordered by label, then by a keyed permutation, and every ``1 / fraction``-th is held out. A row with a label that no
    training row has goes back to training.

    Args:
        rows: the rows.
        fraction: share of the rows to hold out, in [0, 1).
        seed: random seed of the permutation.

    Raises:
        ValueError: a fraction outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"--valid-fraction {fraction} must be at least 0 and below 1, such as 0.1.")
    key = fold(torch.tensor(seed), len(rows))
    rank = permute(torch.arange(len(rows)), len(rows), key).tolist()
    single = [row.words is None for row in rows]
    order = sorted(range(len(rows)), key=lambda i: ((rows[i].labels or ("",))[0] if single[i] else "", rank[i]))
    held = {number for place, number in enumerate(order) if int((place + 1) * fraction) > int(place * fraction)}
    known = {label for number, row in enumerate(rows) if number not in held for label in row.labels or ()}
    for number in sorted(held):
        if not known.issuperset(rows[number].labels or ()):
            known.update(rows[number].labels or ())
            held.remove(number)
    return [row for i, row in enumerate(rows) if i not in held], [rows[i] for i in sorted(held)]


class EncodedRow(NamedTuple):
    """The tokens of a row.

    Attributes:
        ids: int64 ``[n]``.
        heads: int64, index of the first token of each word; ``[0]`` for a text with one label.
    """

    ids: Int[np.ndarray, " tokens"]
    heads: Int[np.ndarray, " labels"]


def encode_rows(
    tokenizer: Tokenizer,
    rows: Sequence[LabelledRow],
    limit: int | None,
    *,
    template: bool = False,
    truncate: bool = False,
) -> list[EncodedRow]:
    """Tokenise rows.

    Args:
        tokenizer: the tokenizer of the encoder.
        rows: the rows.
        limit: largest number of tokens of a row; None = no limit.
        template: add the special tokens of the tokenizer's template around each text ([CLS], [SEP]).
        truncate: cut longer texts; otherwise they are an error. Words are never cut.

    Raises:
        ValueError: a text or a word without tokens, or a row longer than the limit.
    """
    found = []
    for row, tokens in zip(
        rows, tokenize_with_words(tokenizer, [r.text for r in rows], template=template), strict=True
    ):
        ids = tokens.ids
        if tokens.added.all():
            raise ValueError(f"{row.place}: the tokenizer makes no token of {row.text!r}. Drop the row.")
        if limit is not None and len(ids) > limit:
            if row.words is not None or not truncate:
                how = (
                    "split it into shorter rows"
                    if row.words is not None
                    else "shorten it, or cut texts with --truncate"
                )
                raise ValueError(f"{row.place}: the row has {len(ids)} tokens, and this encoder takes {limit}: {how}.")
            behind = int(np.argmin(tokens.added[::-1]))  # tokens of the template after the text
            ids = np.concatenate([ids[: limit - behind], ids[len(ids) - behind :]])
        heads = np.zeros(1, dtype=np.int64) if row.words is None else _first_tokens(row, tokens.offsets, tokens.added)
        found.append(EncodedRow(ids, heads))
    return found


def _first_tokens(row: LabelledRow, offsets: Any, added: Any) -> Int[np.ndarray, " words"]:
    """Return the first token of each word: the first one with a character of it."""
    heads, start = [], 0
    for word in row.words or ():
        stop = start + len(word)
        inside = ~added & (offsets[:, 0] < stop) & (offsets[:, 1] > start)
        if not inside.any():
            raise ValueError(
                f"{row.place}: the tokenizer makes no token of the word {word!r}. Drop the word and its label."
            )
        heads.append(int(inside.argmax()))
        start = stop + 1
    return np.array(heads, dtype=np.int64)


def label_ids(rows: Iterable[LabelledRow], names: Sequence[str]) -> list[Int[np.ndarray, " labels"]]:
    """Return the number of each label in ``names``, one array per row.

    Raises:
        ValueError: a label that is not among the names.
    """
    number = {name: index for index, name in enumerate(names)}
    found = []
    for row in rows:
        for label in row.labels or ():
            if label not in number:
                raise ValueError(
                    f"{row.place}: the label {label!r} does not occur in the training rows, whose labels are {', '.join(names)}. Drop the "
                    "row, or train on rows with this label."
                )
        found.append(np.array([number[label] for label in row.labels or ()], dtype=np.int64))
    return found
