"""The trace tokenizer: one token per word, a few per number, and no unknown words.

    word       `` mov``, `` rax``, `` [``, `` dword``: one token with the space before it, if frequent enough
    integer    groups of three digits from the right, `` 7 151 620`` for 7151620, after a separate sign: any 64-bit
               immediate is at most eight tokens from a set of about two thousand
    other      bytes: words outside the vocabulary are spelled
    [NEXT]     one token between instructions: part of the text, but special, so never masked and never sampled

The tokenizer is a standard ``tokenizer.json`` (byte-level BPE without merges, which matches complete words of its
vocabulary), so every library that reads this format reads it. ``decode(encode(trace)) == trace``; other texts lose at
most a leading space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from unmask.data.tokenizing.tokenizers import Tokenizer

NEXT = "[NEXT]"
TRACE_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]", "next": NEXT}

_SPACE = "Ġ"  # a space in byte-level BPE
_STRUCTURE = ("[", "]", "+", "-", "*")  # whole words in every vocabulary

# A sign; a first group of one to three digits with whole groups behind it (the look-ahead is bounded, so that a long
# run of digits costs linear time); a further group; a word; any other white space.
_PIECES = r" ?-(?=[0-9])| ?[0-9]{1,3}(?=(?:[0-9]{3}){0,6}(?![0-9]))| ?[0-9]{3}| ?[^\s0-9]\S*|\s"


def _numbers() -> list[str]:
    first = [f"{_SPACE}{n}" for n in range(1000)]
    after_a_sign = [str(n) for n in range(1000)]
    further = [f"{n:03}" for n in range(100)]
    return first + after_a_sign + further


def _base() -> dict[str, int]:
    """Return the first entries of every trace vocabulary: special tokens, bytes, numbers, brackets."""
    specials = ["[PAD]", "[UNK]", "[SEP]", "[CLS]", "[MASK]", NEXT]
    structure = [_SPACE + word for word in _STRUCTURE]
    every = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *_numbers(), *structure]
    return {token: id for id, token in enumerate(dict.fromkeys(every))}


SMALLEST_TRACE_VOCABULARY = len(_base())


def _piece_of(word: str) -> str:
    """Return the byte-level form of a word and the space before it."""
    return "".join(
        piece
        for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(f" {word}")
    )


def _is_one_piece(word: str) -> bool:
    """Return whether pre-tokenisation keeps a word in one piece: not a number, and without special tokens."""
    return re.match(r"-?[0-9]", word) is None and not any(special in word for special in TRACE_SPECIALS.values())


def trace_tokenizer(traces: Iterable[str], vocab_size: int = 8192, min_count: int = 2) -> Tokenizer:
    """Build the tokenizer of a corpus of traces; their order does not matter.

    Args:
        traces: words separated by single spaces, as ``unmask disassemble`` writes them.
        vocab_size: largest number of ids. Ids beyond the special tokens, bytes and numbers
            (``SMALLEST_TRACE_VOCABULARY``) are assigned to the most frequent words.
        min_count: rarer words are spelled in bytes, so that a model trains on spelled words too.

    Raises:
        ValueError: ``vocab_size`` is below ``SMALLEST_TRACE_VOCABULARY``, or ``min_count`` below 1.

    Examples:
        >>> from unmask.data.traces.trace_tokenizer import trace_tokenizer
        >>> tokenizer = trace_tokenizer(["mov eax 1234 [NEXT] ret"] * 2)
        >>> [tokenizer.token_text(id) for id in tokenizer.encode("mov eax 1234")]
        [' mov', ' eax', ' 1', '234']
    """
    if vocab_size < SMALLEST_TRACE_VOCABULARY:
        raise ValueError(
            f"vocab_size is {vocab_size}, and a trace tokenizer needs at least {SMALLEST_TRACE_VOCABULARY}: the "
            "special tokens, 256 bytes, the groups of three digits and the brackets. 8192 suffices for the words of "
            "three architectures."
        )
    if min_count < 1:
        raise ValueError(
            f"min_count is {min_count}; it is the least number of occurrences of a word that gets its own token: 1 or "
            "more."
        )
    counts: Counter[str] = Counter()
    for trace in traces:
        counts.update(trace.split())
    vocabulary = _base()
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(vocabulary) >= vocab_size or count < min_count:
            break
        if _is_one_piece(word):
            vocabulary.setdefault(_piece_of(word), len(vocabulary))
    return Tokenizer(_backend(vocabulary), TRACE_SPECIALS)


def _backend(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    # Every piece of text between special tokens begins with exactly one space, so `mov` is the same token everywhere.
    one_space = normalizers.Replace(tokenizers.Regex("^  "), " ")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(" "), one_space])
    pieces = pre_tokenizers.Split(tokenizers.Regex(_PIECES), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    spaced = [decoders.Replace(token, _SPACE + token) for token in TRACE_SPECIALS.values()]
    backend.decoder = decoders.Sequence([*spaced, decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    for token in TRACE_SPECIALS.values():
        added = tokenizers.AddedToken(token, special=token != NEXT, normalized=False, lstrip=True)
        (backend.add_tokens if token == NEXT else backend.add_special_tokens)([added])
    return backend
