"""Whole-word masking: all tokens of a word are masked together.

A word table holds the word boundaries of every id; whether a token starts a word follows from it and the token before
it, for whole batches at once. ``unmask.data.words.text_words`` builds the table of a tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class WordTable:
    """Word boundaries of each id of a vocabulary; every tensor ``[V]``.

    Attributes:
        starts: True = always starts a word (its text begins with a space, or is a word of a word-level vocabulary).
        continues: True = never starts a word (word-piece ``##ing``).
        first, last: class of the first and last character (letters, digits, other). Any other token starts a word if
            the class of its first character differs from that of the last character before it.
    """

    starts: Bool[Tensor, " vocab"]
    continues: Bool[Tensor, " vocab"]
    first: Int[Tensor, " vocab"]
    last: Int[Tensor, " vocab"]

    def word_starts(
        self, ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"]
    ) -> Bool[Tensor, "batch seq"]:
        """Return True at the first token of each word; ineligible positions, such as special tokens, end a word."""
        starts = torch.ones_like(eligible)
        changed = self.starts[ids[:, 1:]] | (self.first[ids[:, 1:]] != self.last[ids[:, :-1]])
        starts[:, 1:] = (changed & ~self.continues[ids[:, 1:]]) | ~eligible[:, :-1] | ~eligible[:, 1:]
        return starts

    def __call__(self, ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
        """Return the index of the first token of each token's word."""
        return first_of_word(self.word_starts(ids, eligible))


def first_of_word(starts: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return the index of the last start at or before each position; ``starts`` is True at position 0."""
    index = torch.arange(starts.shape[1], device=starts.device).expand(starts.shape)
    return torch.where(starts, index, 0).cummax(-1).values
