"""Tokenise text that continues after a mask, without the space that the tokenizer adds at the start of a text.

Many tokenizers prepend a space to every text (``add_prefix_space``, ``prepend_scheme``, a ``Prepend`` normaliser), so that a
first word has the same token as a later one. After a mask, this would turn ``<mask>.`` into ``<mask> .``. Word-piece tokenizers
mark the opposite, ``##able`` for the continuation of a word; a letter directly after a mask continues a word.
"""

from __future__ import annotations

import json
from typing import Any

import tokenizers


class Continuation:
    """Tokenizer of text that directly follows a mask.

    Args:
        backend: the tokenizer of complete texts.
        keep_prefix: True = every piece of text begins with a space by design, as in instruction traces.
    """

    def __init__(self, backend: tokenizers.Tokenizer, keep_prefix: bool = False) -> None:
        tree = json.loads(backend.to_str())
        changed = {**tree, **{part: _without_prefix(tree[part]) for part in ("normalizer", "pre_tokenizer")}}
        self._backend = backend
        if changed != tree and not keep_prefix:
            self._backend = tokenizers.Tokenizer.from_str(json.dumps(changed))
            self._backend.encode_special_tokens = True
        self._mark = tree["model"].get("continuing_subword_prefix") if tree["model"]["type"] == "WordPiece" else None

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` as the continuation of a mask."""
        if self._mark:
            ids = self._rest_of_a_word(text)
            if ids is not None:
                return ids
        return self._backend.encode(text, add_special_tokens=False).ids

    def _rest_of_a_word(self, text: str) -> list[int] | None:
        """Return the ids if ``text`` begins inside a word and the vocabulary has such pieces; otherwise None."""
        if not text[:1].isalnum():
            return None
        backend, mark = self._backend, self._mark or ""
        plain = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        words = (
            [(plain, (0, len(plain)))]
            if backend.pre_tokenizer is None
            else backend.pre_tokenizer.pre_tokenize_str(f"a{plain}")
        )
        end = words[0][1][1] - 1 if words and backend.pre_tokenizer is not None else len(plain)
        if end < 1:  # a letter before it would be a word of its own
            return None
        pieces = backend.model.tokenize(mark + plain[:end])
        if not all(piece.value.startswith(mark) and len(piece.value) > len(mark) for piece in pieces):
            return None
        return [piece.id for piece in pieces] + backend.encode(plain[end:], add_special_tokens=False).ids


def _without_prefix(part: Any) -> Any:
    """A normaliser or pre-tokeniser without what it puts before, or takes from, the beginning of a text."""
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Sequence":
        name = "normalizers" if "normalizers" in part else "pretokenizers"
        return {**part, name: [kept for inner in part[name] if (kept := _without_prefix(inner)) is not None]}
    changes: dict[str, dict[str, Any]] = {
        "Metaspace": {"prepend_scheme": "never"},
        "ByteLevel": {"add_prefix_space": False},
        "Strip": {"strip_left": False},
    }
    return {**part, **changes.get(part["type"], {})}
