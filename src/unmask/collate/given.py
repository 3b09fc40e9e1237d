"""Fields of rows that other tools prepared: padding, special tokens and labels.

    attention_mask        0 = padding: removed from the row, wherever it is
    special_tokens_mask   1 = never masked
    labels                -100 = never masked and never scored; elsewhere the token itself

Padding is removed first, so that every collator adds BOS, EOS and its own padding as usual. Padding is then never attended,
masked, scored or counted in a position. Other fields, such as ``token_type_ids``, are ignored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unmask.collate.rows import Ragged, Rows, column, flags, lengths_of, sequences
from unmask.contracts import IGNORED_TARGET

Flags = list[NDArray[np.bool_]]


def real_tokens(rows: Rows, tokens: Ragged, *names: str) -> Flags | None:
    """Locate the real tokens of each row by the first available mask among ``names`` (default ``attention_mask``).

    Returns:
        ``B`` bool arrays as long as the rows; None without such a field, or if all tokens are real.

    Raises:
        ValueError: a mask and its tokens differ in length.
    """
    names = names or ("attention_mask",)
    masks = flags(rows, *names)
    if masks is None:
        return None
    if lengths_of(masks) != lengths_of(tokens):
        raise ValueError(
            f"Each row's {names[0]!r} must be as long as its tokens, and here lengths are {lengths_of(masks)[:4]} for "
            f"{lengths_of(tokens)[:4]} tokens. Use 1 for a real token and 0 for padding, or drop the field."
        )
    return None if all(mask.all() for mask in masks) else list(masks)


def keep(values: Ragged, real: Flags | None) -> Ragged:
    """Drop the values at padding; ``real=None`` drops nothing."""
    return values if real is None else [row[mask] for row, mask in zip(values, real, strict=True)]


def maskable(rows: Rows, tokens: Ragged, *, special_tokens: bool = True) -> Flags | None:
    """Locate the positions that ``special_tokens_mask`` and ``labels`` allow to be masked.

    A field with one number per row, such as a class label, has no effect.

    Args:
        rows: the batch.
        tokens: tokens of the rows, padding included.
        special_tokens: also read ``special_tokens_mask``.

    Returns:
        ``B`` bool arrays; None if the rows have neither field.

    Raises:
        ValueError: lengths differ, or a label is neither -100 nor its token.
    """
    ordinary: Flags | None = None
    if special_tokens and sequences(rows, "special_tokens_mask"):
        special = flags(rows, "special_tokens_mask")
        assert special is not None
        _check_lengths("special_tokens_mask", special, tokens)
        ordinary = [~mask for mask in special]
    if not sequences(rows, "labels"):
        return ordinary
    labels = column(rows, "labels")
    assert labels is not None
    _check_lengths("labels", labels, tokens)
    for number, (label, token) in enumerate(zip(labels, tokens, strict=True)):
        if len(wrong := np.flatnonzero((label != IGNORED_TARGET) & (label != token))):
            at = int(wrong[0])
            raise ValueError(
                f"Row {number} has label {int(label[at])} for token {int(token[at])} at position {at}. A collator masks tokens "
                "itself, so 'labels' hold the clean token or -100 (never masked, never scored). Pass rows before masking, or "
                "drop the field 'labels'."
            )
    scored = [label != IGNORED_TARGET for label in labels]
    return scored if ordinary is None else [a & b for a, b in zip(ordinary, scored, strict=True)]


def _check_lengths(name: str, values: Ragged, tokens: Ragged) -> None:
    if lengths_of(values) != lengths_of(tokens):
        raise ValueError(
            f"Each row's {name!r} must be as long as its tokens, and here lengths are {lengths_of(values)[:4]} for "
            f"{lengths_of(tokens)[:4]} tokens. Correct the field, or drop it."
        )
