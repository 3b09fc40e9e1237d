"""Vocabulary entries that are not text: ``[unused12]``, ``<null_1>``, ``madeupword0001``, the unknown token.

They never occur in text, so they are not allowed as fillings of a mask.
"""

from __future__ import annotations

import re

import tokenizers

from unmask.data.tokenizing.token_bytes import decoders_of

_RESERVED = re.compile(
    r"[\[<]\|?(?:unused|reserved[_a-z]*|null|extra[_ ]id|dummy|placeholder)[-_ ]?\d+\|?[\]>]|[\[<]\|?(?:pad|mask|unk)\|?[\]>]|madeupword\d+|</?s>NOTUSED",
    re.IGNORECASE,
)
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


def reserved_ids(backend: tokenizers.Tokenizer) -> set[int]:
    """Return the ids with reserved names, bracketed tokens that no text is encoded to, and the unknown token."""
    has_byte_fallback = "ByteFallback" in decoders_of(backend)
    reserved, bracketed = set(), []
    for token, id in backend.get_vocab(with_added_tokens=True).items():
        if _RESERVED.fullmatch(token):
            reserved.add(id)
        elif _BYTE.fullmatch(token):
            reserved |= set() if has_byte_fallback else {id}
        elif _BRACKETED.fullmatch(token):
            bracketed.append((token, id))
    for token, id in bracketed:
        encodings = backend.encode_batch_fast([token, f"a{token}", f"a {token}"], add_special_tokens=False)
        if not any(id in encoding.ids for encoding in encodings):
            reserved.add(id)
    unknown = backend.token_to_id(getattr(backend.model, "unk_token", None) or "")
    return reserved | ({unknown} if unknown is not None else set())
