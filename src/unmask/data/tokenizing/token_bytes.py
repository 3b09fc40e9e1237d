"""What each token writes, in bytes: some tokens are only a part of a character.

Byte-level tokens write each byte as one printable character, and byte-fallback tokens are called ``<0xE4>``.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tokenizers


def byte_alphabet() -> dict[str, int]:
    """The byte of each printable character of byte-level BPE.

    Printable Latin-1 stands for itself; the other bytes, in order, are U+0100 and up (Radford et al. 2019).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF = byte_alphabet()
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def backend_of(tokenizer: Any) -> tokenizers.Tokenizer | None:
    """The ``tokenizers.Tokenizer`` of ours, of transformers', or of nothing known (None)."""
    for name in ("backend", "backend_tokenizer"):
        found = getattr(tokenizer, name, None)
        if isinstance(found, tokenizers.Tokenizer):
            return found
    return tokenizer if isinstance(tokenizer, tokenizers.Tokenizer) else None


def decoders_of(backend: tokenizers.Tokenizer) -> list[str]:
    """The types of the decoders, in order; none where tokens are joined by spaces."""
    if backend.decoder is None:
        return []
    tree = json.loads(backend.decoder.__getstate__())
    return [part["type"] for part in tree.get("decoders", [tree])]


def parts_of_characters(tokenizer: Any) -> dict[int, bytes]:
    """The bytes of every token that is not whole characters, by id; empty for tokenizers of another kind."""
    backend = backend_of(tokenizer)
    kinds = [] if backend is None else decoders_of(backend)
    if backend is None or not {"ByteLevel", "ByteFallback"} & set(kinds):
        return {}
    added = backend.get_added_tokens_decoder()
    found = {}
    for token, id in backend.get_vocab(with_added_tokens=True).items():
        data = _bytes(token, "ByteLevel" in kinds)
        if data is None or id in added:
            continue
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            found[id] = data
    return found


def _bytes(token: str, byte_level: bool) -> bytes | None:
    """The bytes of a token that is written in bytes; None where its text is itself."""
    if byte_level:
        data = [BYTE_OF.get(character) for character in token]
        return None if None in data else bytes(byte for byte in data if byte is not None)
    fallback = _FALLBACK.fullmatch(token)
    return bytes([int(fallback[1], 16)]) if fallback else None
