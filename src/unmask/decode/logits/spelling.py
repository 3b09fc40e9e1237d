"""What each token writes, by what stands before it: bytes of UTF-8, read off the tokenizer's own decoder.

    byte-level              the bytes of the token; some are parts of a character
    Metaspace, Unigram      ``▁`` is a space; ``<0xE4>`` is a byte; at the beginning of a text the first space may be dropped
    WordPiece               ``##able`` continues a word; two words get a space between them where they would be read as one

Shapes: ``V`` ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.contracts import SpecialIds
from unmask.data.tokenizing.token_bytes import BYTE_OF
from unmask.data.tokenizing.tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Spelling:
    """What each token writes, in the order of ids; None = never placed there.

    Attributes:
        behind: behind other tokens, in UTF-8.
        behind_space: behind a space that is given; that space is not written again.
        at_start: where nothing stands before.
        continues: by id, whether the token continues a word; None where tokens bring their spaces. Where it is given, two tokens of
            which the second does not continue have a space between them if they would be one word without it.
        words: runs ``[R, 2]`` of the characters that make one word of two tokens.
    """

    behind: Sequence[bytes | None]
    behind_space: Sequence[bytes | None]
    at_start: Sequence[bytes | None]
    continues: Sequence[bool] | None = None
    words: np.ndarray | None = None

    @classmethod
    def of(cls, texts: Sequence[str | bytes | None]) -> Spelling:
        """Of tokens that bring their spaces and read alike everywhere."""
        data = [text.encode("utf-8") if isinstance(text, str) else text for text in texts]
        return cls(data, [None if part is None else part.removeprefix(b" ") for part in data], data)

    @classmethod
    def of_tokenizer(cls, tokenizer: Tokenizer) -> Spelling:
        """Of a tokenizer's tokens. Special ids are never placed, nor is a token that writes nothing."""
        backend, special = tokenizer.backend, set(SpecialIds.of(tokenizer).all)
        decoder = "" if backend.decoder is None else json.dumps(json.loads(backend.to_str())["decoder"])
        ids = range(tokenizer.vocab_size)
        tokens = [None if i in special else backend.id_to_token(i) for i in ids]
        if '"ByteLevel"' in decoder:
            data = [None if token is None else _byte_level(token) for token in tokens]
            starts = (
                [None if part is None else part.removeprefix(b" ") for part in data]
                if _begins_with_a_space(tokenizer)
                else data
            )
            return cls(data, [None if part is None else part.removeprefix(b" ") for part in data], starts)
        fallback = '"ByteFallback"' in decoder
        behind = [
            _written(text, token, fallback)
            for text, token in zip(_decoded_behind(tokenizer, tokens), tokens, strict=True)
        ]
        if backend.decoder is None or any(kind in decoder for kind in ('"WordPiece"', '"BPEDecoder"', '"CTC"')):
            continues = [part is not None and not part.startswith(b" ") for part in behind]
            words = [None if part is None else part.removeprefix(b" ") for part in behind]
            anew = [None if inner else part for part, inner in zip(words, continues, strict=True)]
            return cls(words, anew, anew, continues, _word_characters(tokenizer, words))
        alone = backend.decode_batch([[i] for i in ids], skip_special_tokens=False)
        starts = [_written(text, token, fallback) for text, token in zip(alone, tokens, strict=True)]
        if _begins_with_a_space(tokenizer):
            starts = [None if part is None else part.removeprefix(b" ") for part in starts]
        return cls(behind, [None if part is None else part.removeprefix(b" ") for part in behind], starts)


def _byte_level(token: str) -> bytes:
    data = [BYTE_OF.get(character) for character in token]
    return token.encode("utf-8") if None in data else bytes(byte for byte in data if byte is not None)


def _written(text: str, token: str | None, fallback: bool) -> bytes | None:
    if token is None:
        return None
    byte = _BYTE.fullmatch(token) if fallback else None
    return bytes([int(byte[1], 16)]) if byte else text.encode("utf-8")


def _decoded_behind(tokenizer: Tokenizer, tokens: Sequence[str | None]) -> list[str]:
    """What each token adds to a text it follows: decoded behind an ordinary token of letters."""
    backend = tokenizer.backend
    anchor = next(
        (i for i, token in enumerate(tokens) if token is not None and token.isascii() and token.isalpha()), None
    )
    before = [] if anchor is None else [anchor]
    cut = len(backend.decode(before, skip_special_tokens=False)) if before else 0
    texts = backend.decode_batch([[*before, i] for i in range(len(tokens))], skip_special_tokens=False)
    return [text[cut:] for text in texts]


def _begins_with_a_space(tokenizer: Tokenizer) -> bool:
    """Whether every text comes back with a space in front that it did not have."""
    return tokenizer.decode(tokenizer.encode("a")).startswith(" ")


def _word_characters(tokenizer: Tokenizer, words: Sequence[bytes | None]) -> np.ndarray:
    """Of the characters that tokens write, those that stay in one word behind a letter."""
    backend = tokenizer.backend
    characters = sorted(set("".join(word.decode("utf-8", "ignore") for word in words if word)))

    def joins(character: str) -> bool:
        text = f"a{character}"
        text = text if backend.normalizer is None else backend.normalizer.normalize_str(text).strip()
        pieces = text.split() if backend.pre_tokenizer is None else backend.pre_tokenizer.pre_tokenize_str(text)
        return len(pieces) == 1

    return np.array([(ord(c), ord(c) + 1) for c in characters if joins(c)], dtype=np.int64).reshape(-1, 2)
