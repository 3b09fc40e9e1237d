"""The bytes of each token; some tokens are only part of a character.

Byte-level vocabularies represent each byte as one printable character; byte-fallback tokens are named ``<0xE4>``.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tokenizers


def byte_alphabet() -> dict[str, int]:
    """Return the byte of each printable character of byte-level BPE (Radford et al. 2019).

    Printable Latin-1 represents itself; the other bytes, in order, are U+0100 and up.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF = byte_alphabet()
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def backend_of(tokenizer: Any) -> tokenizers.Tokenizer | None:
    """Return the ``tokenizers.Tokenizer`` inside an unmask or transformers tokenizer; None for any other object."""
    for name in ("backend", "backend_tokenizer"):
        backend = getattr(tokenizer, name, None)
        if isinstance(backend, tokenizers.Tokenizer):
            return backend
    return tokenizer if isinstance(tokenizer, tokenizers.Tokenizer) else None


def decoders_of(backend: tokenizers.Tokenizer) -> list[str]:
    """Return the types of the decoders, in order; empty if tokens are joined by spaces."""
    if backend.decoder is None:
        return []
    tree = json.loads(backend.decoder.__getstate__())
    return [part["type"] for part in tree.get("decoders", [tree])]


def parts_of_characters(tokenizer: Any) -> dict[int, bytes]:
    """Return the bytes of every token that is not complete characters, by id; empty for other kinds of tokenizers."""
    backend = backend_of(tokenizer)
    kinds = [] if backend is None else decoders_of(backend)
    if backend is None or not {"ByteLevel", "ByteFallback"} & set(kinds):
        return {}
    added = backend.get_added_tokens_decoder()
    parts = {}
    for token, id in backend.get_vocab(with_added_tokens=True).items():
        data = _bytes(token, "ByteLevel" in kinds)
        if data is None or id in added:
            continue
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            parts[id] = data
    return parts


def _bytes(token: str, byte_level: bool) -> bytes | None:
    """Return the bytes of a token written in bytes; None for a token written as text."""
    if byte_level:
        data = [BYTE_OF.get(character) for character in token]
        return None if None in data else bytes(byte for byte in data if byte is not None)
    fallback = _FALLBACK.fullmatch(token)
    return bytes([int(fallback[1], 16)]) if fallback else None
