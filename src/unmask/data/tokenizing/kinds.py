"""Kinds of tokenizers that can be trained, by name.

    bpe          byte-level byte-pair encoding         text of any language, code
    unigram      byte-level unigram language model     the same, by likelihood
    wordpiece    BERT's word pieces, cased             text, for comparison with BERT
    characters   one token a character                 proteins, SMILES, puzzles
    bytes        one token a byte, 256 of them         anything; nothing to train
    words        one token a white-space separated word    music, moves, ready symbols
    ids          the numbers of ready token ids        data that others have tokenised

``bpe``, ``unigram`` and ``bytes`` decode every text to itself. The others map what training never saw to ``[UNK]``.

The trainers of ``unigram`` and ``wordpiece`` (from the ``tokenizers`` library) break ties by a hash that differs between processes. Training them twice can
give two tokenizers, so a store keeps the one that it was made with. All other kinds are the same for equal texts in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from unmask.data.tokenizing.number_tokens import number_tokenizer
from unmask.data.tokenizing.splitting import LONGEST_COUNTED_WORD, word_splitter
from unmask.data.tokenizing.tokenizers import SPECIAL_TOKENS, Tokenizer
from unmask.suggestions import nearest

ONLY_IDS = "Choose the tokenizer ids, or leave special_ids out."


@dataclass(frozen=True)
class TokenizerKind:
    """One way to make a tokenizer of training text.

    Attributes:
        description: one line for help texts and documentation.
        train: texts and the largest vocabulary -> tokenizer.
        smallest: the smallest vocabulary it can have.
        reads_all: training reads the whole corpus, not a part of it.
        reproducible: equal texts, in any order, give equal tokenizers.
    """

    description: str
    train: Callable[[Iterable[str], int], Tokenizer]
    smallest: int = len(SPECIAL_TOKENS) + 1
    reads_all: bool = False
    reproducible: bool = True


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int, special_ids: Mapping[str, int] | None = None
) -> Tokenizer:
    """Train a tokenizer of a kind.

    Args:
        kind: a name of ``TOKENIZER_KINDS``.
        texts: training text.
        vocab_size: largest vocabulary, special tokens included; ``characters`` and ``words`` stay below it if the text has fewer.
        special_ids: ids of the special tokens by role, for the kind ``ids``; None = the tokenizer chooses them.

    Returns:
        A tokenizer whose first ids are the special tokens; in the kind ``ids`` they are the last, or those given.

    Raises:
        ValueError: an unknown kind, a vocabulary that is too small, or no text.

    Examples:
        >>> tokenizer = train_tokenizer("characters", ["MKVL", "MKLV"], 100)
        >>> tokenizer.decode(tokenizer.encode("VMK"))
        'VMK'
    """
    if kind not in TOKENIZER_KINDS:
        raise ValueError(
            f"There is no kind of tokenizer {kind!r}.{nearest(kind, TOKENIZER_KINDS)} Choose one of {', '.join(TOKENIZER_KINDS)}."
        )
    chosen = TOKENIZER_KINDS[kind]
    if special_ids is not None:
        if kind != "ids":
            raise ValueError(
                f"special_ids are those of ready ids, and a tokenizer of kind {kind} chooses its own. {ONLY_IDS}"
            )
        return number_tokenizer(texts, vocab_size, special_ids)
    if vocab_size < chosen.smallest:
        raise ValueError(
            f"vocab_size is {vocab_size}, and a tokenizer of kind {kind} has at least {chosen.smallest} tokens."
        )
    return chosen.train(texts, vocab_size)


def _specials(mask_takes_space: bool) -> list[tokenizers.AddedToken]:
    return [
        tokenizers.AddedToken(token, special=True, normalized=False, lstrip=mask_takes_space and role == "mask")
        for role, token in SPECIAL_TOKENS.items()
    ]


def _of_counts(
    counts: Counter[str], vocab_size: int, splitter: pre_tokenizers.PreTokenizer, decoder: decoders.Decoder | None
) -> Tokenizer:
    """A tokenizer whose tokens are the most frequent of the counted pieces."""
    if not counts:
        raise ValueError("There is no text to take a vocabulary from: all documents are empty.")
    specials = list(SPECIAL_TOKENS.values())
    room = vocab_size - len(specials)
    kept = sorted(
        (piece for piece in counts if piece not in SPECIAL_TOKENS.values()), key=lambda piece: (-counts[piece], piece)
    )[:room]
    vocabulary = {piece: id for id, piece in enumerate([*specials, *kept])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk"]))
    backend.pre_tokenizer = splitter
    if decoder is not None:
        backend.decoder = decoder
    backend.add_special_tokens(_specials(mask_takes_space=False))
    return Tokenizer(backend, SPECIAL_TOKENS)


def _characters(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    every = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    return _of_counts(counts, vocab_size, every, decoders.Fuse())


def _words(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    return _of_counts(counts, vocab_size, pre_tokenizers.WhitespaceSplit(), None)


def _bytes(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokens = [*SPECIAL_TOKENS.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = tokenizers.Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(_specials(mask_takes_space=False))
    return Tokenizer(backend, SPECIAL_TOKENS)


def _unigram(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = word_splitter(LONGEST_COUNTED_WORD)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=_specials(mask_takes_space=True),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        unk_token=None,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.pre_tokenizer = word_splitter()
    return Tokenizer(backend, SPECIAL_TOKENS)


def _wordpiece(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=_specials(mask_takes_space=False), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, SPECIAL_TOKENS)


_BYTE_TOKENS = len(SPECIAL_TOKENS) + 256
TOKENIZER_KINDS: dict[str, TokenizerKind] = {
    "bpe": TokenizerKind(
        "byte-level byte-pair encoding, for text of any language and code", Tokenizer.train, _BYTE_TOKENS
    ),
    "unigram": TokenizerKind("byte-level unigram language model", _unigram, _BYTE_TOKENS, reproducible=False),
    "wordpiece": TokenizerKind(
        "word pieces as in BERT, cased", _wordpiece, len(SPECIAL_TOKENS) + 2, reproducible=False
    ),
    "characters": TokenizerKind(
        "one token for each character seen, for proteins, SMILES and puzzles", _characters, reads_all=True
    ),
    "bytes": TokenizerKind("one token for each of the 256 bytes; nothing is trained", _bytes, _BYTE_TOKENS),
    "ids": TokenizerKind(
        "the numbers of ready token ids, each with its own value as id", number_tokenizer, reads_all=True
    ),
    "words": TokenizerKind("one token for each white-space separated word seen", _words, reads_all=True),
}
"""Every kind by name."""
