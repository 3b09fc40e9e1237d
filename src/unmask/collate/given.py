"""Rows made by other tools: padded already, with masks or labels beside the tokens.

    attention_mask        0 = padding: left out of the row, wherever it stands
    special_tokens_mask   1 = never hidden
    labels                -100 = never hidden and never scored; elsewhere the token itself

Removing padding first lets every collator add BOS, EOS and its own padding as usual. No padding is then attended, hidden, scored
or counted in a position. Fields such as ``token_type_ids`` are not read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unmask.collate.rows import Ragged, Rows, column, flags, lengths_of, sequences
from unmask.contracts import IGNORED_TARGET

Flags = list[NDArray[np.bool_]]


def real_tokens(rows: Rows, tokens: Ragged, *names: str) -> Flags | None:
    """Real tokens of each row, by the first of the named masks (``attention_mask`` by default).

    Returns:
        ``B`` bool arrays as long as the rows; None without such a field, or where all tokens are real.

    Raises:
        ValueError: a mask of another length than its tokens.
    """
    names = names or ("attention_mask",)
    masks = flags(rows, *names)
    if masks is None:
        return None
    if lengths_of(masks) != lengths_of(tokens):
        raise ValueError(
            f"Each row's {names[0]!r} must be as long as its tokens, and here lengths are {lengths_of(masks)[:4]} for {lengths_of(tokens)[:4]} "
            "tokens. Give 1 for a real token and 0 for padding, or leave the field out."
        )
    return None if all(mask.all() for mask in masks) else list(masks)


def keep(values: Ragged, real: Flags | None) -> Ragged:
    """``values`` without those of padding; all of them where ``real`` is None."""
    return values if real is None else [row[mask] for row, mask in zip(values, real, strict=True)]


def hideable(rows: Rows, tokens: Ragged, *, special_tokens: bool = True) -> Flags | None:
    """Positions that ``special_tokens_mask`` and ``labels`` leave open to hiding.

    A field with one number a row, such as a class label, restricts nothing.

    Args:
        tokens: of the rows, padding included.
        special_tokens: read ``special_tokens_mask`` too.

    Returns:
        ``B`` bool arrays; None where neither field is given.

    Raises:
        ValueError: lengths differ, or a label is neither -100 nor its token.
    """
    found: Flags | None = None
    if special_tokens and sequences(rows, "special_tokens_mask"):
        special = flags(rows, "special_tokens_mask")
        assert special is not None
        _check_lengths("special_tokens_mask", special, tokens)
        found = [~mask for mask in special]
    if not sequences(rows, "labels"):
        return found
    labels = column(rows, "labels")
    assert labels is not None
    _check_lengths("labels", labels, tokens)
    for number, (label, token) in enumerate(zip(labels, tokens, strict=True)):
        if len(wrong := np.flatnonzero((label != IGNORED_TARGET) & (label != token))):
            at = int(wrong[0])
            raise ValueError(
                f"Row {number} has label {int(label[at])} for token {int(token[at])} at position {at}. A collator hides tokens itself, so 'labels' "
                "hold the clean token or -100 (never hidden, never scored). Give rows before masking, or drop the field 'labels'."
            )
    scored = [label != IGNORED_TARGET for label in labels]
    return scored if found is None else [a & b for a, b in zip(found, scored, strict=True)]


def _check_lengths(name: str, values: Ragged, tokens: Ragged) -> None:
    if lengths_of(values) != lengths_of(tokens):
        raise ValueError(
            f"Each row's {name!r} must be as long as its tokens, and here lengths are {lengths_of(values)[:4]} for {lengths_of(tokens)[:4]} tokens. "
            "Correct the field, or drop it."
        )
