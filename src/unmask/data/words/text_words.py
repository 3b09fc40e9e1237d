"""Group tokens into words, for any tokenizer family and any script (whole-word masking).

A token starts a word if Unicode (UAX #29) has a word boundary before its first character; white space belongs to the
word after it. In ``f(x1) = don't`` the words are ``f``, ``(``, ``x1``, ``)``, `` =`` and `` don't``. Ideographs,
hiragana and emoji are single words, as in BERT; a run of letters of any other script is one word, with its combining
marks. Thai, Lao, Khmer and Burmese do not mark words and would require a dictionary, so there every character with its
marks is one word.

    byte-level        tokens are bytes, joined to characters first, so no word begins inside a character
    word-piece        a token without ``##`` starts a word
    SentencePiece     ``▁`` is a space; ``<0xE4>`` is a byte
    ``word</w>``      the next token starts a word
    word-level        every token is a word

The result is a table by id, so that batches are divided into words without a loop. The few boundaries that depend on
more than the two adjacent tokens are determined from the text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from unmask.data.tokenizing.token_bytes import BYTE_OF
from unmask.data.words.boundaries import word_boundaries
from unmask.data.words.word_breaks import (
    BROKEN,
    JOINED,
    MARK_ENDS,
    MIDDLE,
    N_BEGINS,
    NEWLINE_BEGINS,
    NEWLINE_ENDS,
    UNKNOWN,
    kinds_of,
    token_kinds,
)
from unmask.ops.whole_words import WordTable, first_of_word


@dataclass(frozen=True, eq=False)
class TextWordTable:
    """Word boundaries between tokens of text, with the interface of a ``WordTable``.

    Attributes:
        begins, ends: int64 ``[V]``, kind of the beginning and end of each token (``unmask.data.words.word_breaks``).
        texts: ``V`` byte strings, the text of each token.
        pairs, middles: boundaries between two and three consecutive kinds (``TokenKinds``).

    Examples:
        >>> import torch
        >>> from unmask import Tokenizer, word_table
        >>> tokenizer = Tokenizer.train(["a cat, a dog"], vocab_size=264)
        >>> ids = torch.tensor([tokenizer.encode("a cat.")])
        >>> word_table(tokenizer).word_starts(ids, torch.ones_like(ids, dtype=torch.bool)).long().tolist()
        [[1, 1, 0, 1]]
    """

    begins: Int[Tensor, " vocab"]
    ends: Int[Tensor, " vocab"]
    texts: list[bytes]
    pairs: UInt8[Tensor, " pairs"]
    middles: UInt8[Tensor, "ends middles begins"]

    def word_starts(
        self, ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"]
    ) -> Bool[Tensor, "batch seq"]:
        """Locate the first token of each word.

        Args:
            ids: int64 ``[B, L]``.
            eligible: bool ``[B, L]``, True = maskable. Other tokens, such as special ones, end the word before them.

        Returns:
            bool ``[B, L]``, True at the first token of each word.
        """
        begins, ends = (table.index_select(0, ids.reshape(-1)).view(ids.shape) for table in (self.begins, self.ends))
        if self._any_marks:  # a combining mark has the kind of the character before it
            columns = torch.arange(ids.shape[1], device=ids.device)
            ends = ends.gather(1, torch.where(ends == MARK_ENDS, 0, columns).cummax(1).values)
        pairs = (ends * N_BEGINS)[:, :-1] + begins[:, 1:]
        borders = self.pairs.index_select(0, pairs.view(-1)).view(pairs.shape)
        certain = ~(eligible[:, :-1] & eligible[:, 1:])
        starts = torch.ones_like(eligible)
        starts[:, 1:] = (borders & 1).bool() | certain
        if (borders > BROKEN).any():
            self._resolve_middles(starts, begins, ends, (borders == MIDDLE) & ~certain, certain)
            unknown = (borders == UNKNOWN) & ~certain
            if unknown.any():
                self._resolve_by_text(ids, starts, certain | (borders == BROKEN), borders == JOINED, unknown)
        return starts

    @cached_property
    def _any_marks(self) -> bool:
        return bool((self.ends == MARK_ENDS).any())

    def __call__(self, ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
        """Return the index of the first token of each token's word, int64 ``[B, L]``."""
        return first_of_word(self.word_starts(ids, eligible))

    def _resolve_middles(self, starts: Tensor, begins: Tensor, ends: Tensor, middle: Tensor, certain: Tensor) -> None:
        """Join ``don``, ``'`` and ``t``: whether the middle one belongs to both depends on the third."""
        row, at = middle.nonzero(as_tuple=True)  # the middle is token at + 1
        after = (at + 2).clamp(max=begins.shape[1] - 1)
        last = (after < at + 2) | certain[row, after - 1]
        joined = self.middles[ends[row, at], begins[row, at + 1], torch.where(last, NEWLINE_BEGINS, begins[row, after])]
        starts[row, at + 1] = (joined & 1) == 0
        kept = (joined & 2) > 0
        starts[row[kept], after[kept]] = False

    def _resolve_by_text(self, ids: Tensor, starts: Tensor, certain: Tensor, joined: Tensor, unknown: Tensor) -> None:
        """Apply the Unicode rules to the text of every segment, between certain boundaries, with an unknown one."""
        first_of_segment = torch.ones_like(starts)
        first_of_segment[:, 1:] = certain
        segment = first_of_segment.flatten().cumsum(0) - 1
        unresolved = torch.zeros(int(segment[-1]) + 1, dtype=torch.bool)
        unresolved[segment.view_as(starts)[:, 1:][unknown]] = True
        chosen = unresolved[segment].nonzero()[:, 0]
        tokens, first = ids.flatten()[chosen].tolist(), first_of_segment.flatten()[chosen].numpy()
        pieces = [self.texts[token] for token in tokens]
        begin = np.cumsum([len(piece) for piece in pieces]) - [len(piece) for piece in pieces] + np.cumsum(first)
        for index in np.flatnonzero(first):  # one line per segment
            pieces[index] = b"\n" + pieces[index]
        text = b"".join(pieces).decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        sizes[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1  # a byte that is no complete character
        broken = np.zeros(int(sizes.sum()) + 1, dtype=bool)
        broken[np.cumsum(sizes) - sizes] = word_boundaries(codes)
        resolved = torch.ones_like(starts)
        resolved.view(-1)[chosen] = torch.from_numpy(broken[begin] | first)
        starts[:, 1:] = torch.where(
            unresolved[segment].view_as(starts)[:, 1:] & (certain | ~joined), resolved[:, 1:], starts[:, 1:]
        )


def word_table(tokenizer: Any) -> WordTable | TextWordTable:
    """Build the table of word boundaries of a tokenizer, for whole-word masking.

    Args:
        tokenizer: a ``Tokenizer``, or a fast tokenizer of transformers or ``tokenizers``.

    Returns:
        A callable ``(ids, eligible) -> index of the first token of each word``, int64 ``[B, L]`` each.

    Raises:
        ValueError: the tokenizer is none of these.

    Examples:
        >>> import torch
        >>> from unmask import Tokenizer, word_table
        >>> tokenizer = Tokenizer.train(["a cat, a dog"], vocab_size=264)
        >>> ids = torch.tensor([tokenizer.encode("a cat")])
        >>> word_table(tokenizer)(ids, torch.ones_like(ids, dtype=torch.bool)).tolist()
        [[0, 1, 1]]
    """
    backend = next(
        (getattr(tokenizer, name) for name in ("backend_tokenizer", "backend") if hasattr(tokenizer, name)), tokenizer
    )
    if not hasattr(backend, "to_str"):
        raise ValueError(
            f"Word boundaries need a fast tokenizer, and {type(tokenizer).__name__} is not one. Load it with "
            "unmask.Tokenizer.load or transformers.AutoTokenizer (which is fast if the model has a tokenizer.json)."
        )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values()) + 1
    tree = json.loads(backend.to_str())
    parts = json.dumps([tree["normalizer"], tree["pre_tokenizer"], tree["decoder"]], ensure_ascii=False)
    model = tree["model"]
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    byte_level = '"ByteLevel"' in parts
    spaced = "▁" in parts or model.get("type") == "Unigram"
    if not (byte_level or spaced or prefix or suffix):
        every, none = torch.ones(size, dtype=torch.bool), torch.zeros(size, dtype=torch.long)
        return WordTable(every, ~every, none, none)
    added = backend.get_added_tokens_decoder()
    texts = [b"\n"] * size
    kinds = np.tile([[NEWLINE_BEGINS, NEWLINE_ENDS]], (size, 1))
    for token, id in vocabulary.items():
        if id in added:
            texts[id] = b"\n" if added[id].special else token.encode()
        elif byte_level:
            texts[id] = b"".join(bytes([BYTE_OF[c]]) if c in BYTE_OF else c.encode() for c in token)
        elif model.get("byte_fallback") and len(token) == 6 and token.startswith("<0x"):
            texts[id] = bytes([int(token[3:5], 16)])
        else:
            ended = bool(suffix) and token.endswith(suffix)
            bare = token.removeprefix(prefix).removesuffix(suffix) + "\n" * ended
            texts[id] = (bare.replace("▁", " ") if spaced else bare).encode()
        if texts[id]:
            kinds[id] = kinds_of(texts[id])
        if prefix and not token.startswith(prefix):
            kinds[id, 0] = NEWLINE_BEGINS
    begins, ends = torch.from_numpy(kinds).unbind(1)
    return TextWordTable(begins.contiguous(), ends.contiguous(), texts, *map(torch.from_numpy, token_kinds()))
