"""Rows of minimal pairs, as BLiMP and tables of two columns write them, and the canonical JSON text of each.

good         sentence_good, good
bad          sentence_bad, bad
paradigm     UID, paradigm
phenomenon   linguistics_term, term, phenomenon
id           pairID, pair_id, id
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unmask.data.corpus.readers import as_text, unknown_field

PAIR_FIELDS: dict[str, tuple[str, ...]] = {
    "good": ("sentence_good", "good"),
    "bad": ("sentence_bad", "bad"),
    "paradigm": ("UID", "paradigm"),
    "phenomenon": ("linguistics_term", "term", "phenomenon"),
    "id": ("pairID", "pair_id", "id"),
}
WHAT_A_PAIR_HOLDS = (
    'A row of minimal pairs holds {"sentence_good": "...", "sentence_bad": "..."} or {"good": "...", "bad": "..."}, and may name its paradigm '
    '("UID" or "paradigm").'
)


def pair_as_text(row: Mapping[str, Any], where: str) -> str:
    """Return the fields of a pair under their canonical names, as JSON.

    Args:
        row: the fields.
        where: file and line, or file and row, for error messages.

    Raises:
        ValueError: no good or no bad sentence, or a sentence that is no text.

    Examples:
        >>> pair_as_text({"UID": "order", "sentence_good": "a b", "sentence_bad": "b a"}, "pairs.jsonl, line 1")
        '{"bad": "b a", "good": "a b", "paradigm": "order"}'
    """
    found: dict[str, str] = {}
    for name, columns in PAIR_FIELDS.items():
        column = next((each for each in columns if row.get(each) is not None), None)
        if column is not None:
            value = row[column]
            found[name] = as_text(value, column, where, WHAT_A_PAIR_HOLDS) if name in ("good", "bad") else str(value)
        elif name in ("good", "bad"):
            raise ValueError(unknown_field(f"{where},", name, [str(each) for each in row], WHAT_A_PAIR_HOLDS))
    return json.dumps(found, ensure_ascii=False, sort_keys=True)
