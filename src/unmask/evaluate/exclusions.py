"""Sentences on the text that the figures of an evaluation exclude."""

from __future__ import annotations

from typing import Any


def exclusions(bound: dict[str, Any]) -> str:
    """Return sentences on the text that the figures exclude; empty if they are of the exact text."""
    sentences = []
    if bound["unscored_tokens"]:
        sentences.append(
            f"{bound['unscored_tokens']:,} special tokens (unknown words, separators) are excluded: they cost nothing."
        )
    altered = bound.get("altered_documents")  # absent in reports of earlier versions
    if altered is None and bound["bytes"]:
        sentences.append("It is unknown whether the tokens spell the exact text, because the store does not record it.")
    elif altered:
        rest = "no document has" if altered == bound["documents"] else "only the other documents have"
        sentences.append(
            f"The tokens of {altered:,} of {bound['documents']:,} documents spell another text (unknown words, lower case or "
            f"lost spaces): {rest} bits per byte and per word."
        )
    return " ".join(sentences)
