"""Ids that stand in a vocabulary and are no text: ``[unused12]``, ``<null_1>``, ``madeupword0001``, the word for unknown words.

No text is meant by them, so no blank may be filled with them.
"""

from __future__ import annotations

import re

import tokenizers

from unmask.data.tokenizing.token_bytes import decoders_of

_KEPT_FREE = re.compile(
    r"[\[<]\|?(?:unused|reserved[_a-z]*|null|extra[_ ]id|dummy|placeholder)[-_ ]?\d+\|?[\]>]|[\[<]\|?(?:pad|mask|unk)\|?[\]>]|madeupword\d+|</?s>NOTUSED",
    re.IGNORECASE,
)
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


def reserved_ids(backend: tokenizers.Tokenizer) -> set[int]:
    """The ids that are kept free by their name, those in brackets that no text is encoded to, and the unknown word's."""
    bytes_are_written = "ByteFallback" in decoders_of(backend)
    found, doubtful = set(), []
    for token, id in backend.get_vocab(with_added_tokens=True).items():
        if _KEPT_FREE.fullmatch(token):
            found.add(id)
        elif _BYTE.fullmatch(token):
            found |= set() if bytes_are_written else {id}
        elif _BRACKETED.fullmatch(token):
            doubtful.append((token, id))
    for token, id in doubtful:
        encodings = backend.encode_batch_fast([token, f"a{token}", f"a {token}"], add_special_tokens=False)
        if not any(id in encoding.ids for encoding in encodings):
            found.add(id)
    unknown = backend.token_to_id(getattr(backend.model, "unk_token", None) or "")
    return found | ({unknown} if unknown is not None else set())
