"""Words, for every tokenizer family, and masking that respects them."""

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from unmask.data.words import word_table

TEXT = ["the reader masks some words (twice), then x = 25 is unmasked; naïve readers unmask words again", "masking re-reads 7 of them"]


def trained(model, pre_tokenizer, decoder, trainer):
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer, made.decoder = pre_tokenizer, decoder
    made.train_from_iterator(TEXT * 20, trainer)
    return made


def families():
    specials = ["[UNK]", "[MASK]"]
    yield "word-piece", trained(
        models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(),
        trainers.WordPieceTrainer(vocab_size=60, special_tokens=specials, show_progress=False),
    )  # fmt: skip
    yield "byte-level", trained(
        models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(),
        trainers.BpeTrainer(vocab_size=290, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )  # fmt: skip
    yield "unigram", trained(
        models.Unigram(), pre_tokenizers.Metaspace(), decoders.Metaspace(),
        trainers.UnigramTrainer(vocab_size=60, special_tokens=specials, unk_token="[UNK]", show_progress=False),
    )  # fmt: skip


FAMILIES = dict(families())


@pytest.mark.parametrize("name", FAMILIES)
def test_words_are_those_of_the_text(name):
    """The tokens of a word lie inside one stretch of letters, of digits or of symbols, and words are such stretches."""
    backend = FAMILIES[name]
    table = word_table(backend)
    for text in TEXT:
        encoded = backend.encode(text, add_special_tokens=False)
        ids = torch.tensor([encoded.ids])
        first = table(ids, torch.ones_like(ids, dtype=torch.bool))[0].tolist()
        words = {}
        for index, (start, stop) in zip(first, encoded.offsets, strict=True):
            words.setdefault(index, []).append((start, stop))
        joined = [text[spans[0][0] : spans[-1][1]].strip() for spans in words.values()]
        assert len(encoded.ids) > len(joined)
        assert [w for w in joined if w.isalpha()] == [w for w in "".join(c if c.isalpha() else " " for c in text).split()]
        assert all(w.isalpha() or w.isdigit() or not any(c.isalnum() for c in w) for w in joined)


def test_unmasks_own_tokenizer_and_transformers_agree(tokenizer):
    ours, theirs = word_table(tokenizer), word_table(tokenizer.to_transformers())
    for name in ("starts", "continues", "first", "last"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert len(ours.starts) == len(tokenizer)


def test_letters_digits_and_symbols_are_words_of_their_own_in_byte_level_text(tokenizer):
    table = word_table(tokenizer)
    ids = torch.tensor([tokenizer.encode("f(x12) = name_1")])
    first = table(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    words = [tokenizer.decode(ids[0][first == index]) for index in first.unique()]
    assert words == ["f", "(", "x", "12", ")", " =", " name_", "1"]


def test_word_level_tokens_are_words_and_specials_end_them():
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "[S]": 2}, unk_token="a"))
    ids = torch.tensor([[0, 1, 0, 2, 1]])
    assert word_table(backend)(ids, torch.ones_like(ids, dtype=torch.bool)).tolist() == [[0, 1, 2, 3, 4]]
    piece = word_table(FAMILIES["word-piece"])
    continuing = int(piece.continues.nonzero()[0, 0])
    eligible = torch.tensor([[True, True, False, True, True]])
    assert piece(torch.full((1, 5), continuing), eligible).tolist() == [[0, 0, 2, 3, 3]]


def test_what_is_no_fast_tokenizer_is_refused():
    with pytest.raises(ValueError, match="no fast tokenizer"):
        word_table(object())
