"""Which tokens make a word, for any tokenizer family.

    word-piece        ``##ing`` continues a word, everything else starts one
    byte-level BPE    a token whose text begins with white space starts a word
    Unigram           ``▁word`` starts one
    word-level        every token is a word

In the second and third, a token also starts a word where letters, digits and symbols meet: in ``f(x1)`` the words are
``f``, ``(``, ``x``, ``1`` and ``)``. The answer is a table by id, so that batches are cut into words without a loop.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from unmask.data.tokenizers import _BYTE_OF
from unmask.ops.words import WordTable

_LETTER, _DIGIT, _SYMBOL = 0, 1, 2


def word_table(tokenizer: Any) -> WordTable:
    """The word table of an ``unmask`` tokenizer, or of a fast one of transformers or ``tokenizers``.

    Raises:
        ValueError: the tokenizer is of none of these.
    """
    backend = next((getattr(tokenizer, name) for name in ("backend_tokenizer", "backend") if hasattr(tokenizer, name)), tokenizer)
    if not hasattr(backend, "to_str"):
        raise ValueError(
            f"Words cannot be told apart with a {type(tokenizer).__name__}: it is no fast tokenizer. Load it with "
            "unmask.Tokenizer.load or transformers.AutoTokenizer (which is fast wherever the model has a tokenizer.json)."
        )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values()) + 1
    tokens = [""] * size
    for token, id in vocabulary.items():
        tokens[id] = token
    made = json.loads(backend.to_str())
    kind, parts = made["model"].get("type"), json.dumps([made["pre_tokenizer"], made["decoder"]])
    if kind == "WordPiece":
        prefix = made["model"]["continuing_subword_prefix"]
        return _table(starts=[not t.startswith(prefix) for t in tokens], continues=[t.startswith(prefix) for t in tokens])
    if '"ByteLevel"' in parts:
        texts = [bytes(_BYTE_OF.get(c, 0x20) for c in t).decode("latin-1") for t in tokens]
    elif "▁" in parts or kind == "Unigram":
        texts = [t.replace("▁", " ") for t in tokens]
    else:
        return _table(starts=[True] * size, continues=[False] * size)
    return _table(
        starts=[t[:1].isspace() for t in texts],
        continues=[False] * size,
        first=[_class(t[:1]) for t in texts],
        last=[_class(t[-1:]) for t in texts],
    )


def _class(character: str) -> int:
    """Letters, digits or symbols; bytes of characters beyond ASCII are parts of letters."""
    if character.isdigit():
        return _DIGIT
    return _LETTER if character.isalpha() or character == "_" or character > "\x7f" else _SYMBOL


def _table(starts: list[bool], continues: list[bool], first: list[int] | None = None, last: list[int] | None = None) -> WordTable:
    classes = [torch.from_numpy(np.asarray(c if c is not None else [0] * len(starts), dtype=np.int64)) for c in (first, last)]
    return WordTable(torch.tensor(starts), torch.tensor(continues), *classes)
