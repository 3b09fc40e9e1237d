"""How text is cut into words before a byte-level tokenizer is trained or applied."""

from __future__ import annotations

import tokenizers
from tokenizers import pre_tokenizers

LONGEST_COUNTED_WORD = 256  # characters; see Tokenizer.train


def _pieces(longest: int | None = None) -> str:
    """Return the pattern that splits text into words, of any length or of at most ``longest`` characters.

    Pieces are contractions, words with the space or underscore before them, up to three digits, symbols, and white
    space. The last space of a run belongs to the word after it, so that an indentation is one token.
    """
    some, any_ = ("+", "*") if longest is None else (f"{{1,{longest}}}", f"{{0,{longest - 1}}}")
    word, symbols = rf"[ _]?[\p{{L}}\p{{M}}]{some}", rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]{some}"
    return rf"'(?:[sdmt]|ll|ve|re)(?!\p{{L}})|{word}|\p{{N}}{{1,3}}|{symbols}|\s{any_}\n|\s{some}(?!\S)|\s{some}"


def word_splitter(longest: int | None = None) -> pre_tokenizers.PreTokenizer:
    """Return the splitter of text into words of at most ``longest`` characters, represented byte by byte."""
    words = pre_tokenizers.Split(tokenizers.Regex(_pieces(longest)), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
