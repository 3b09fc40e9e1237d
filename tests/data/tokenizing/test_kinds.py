"""Trained tokenizers of every kind: text comes back, special tokens have their ids, order of the texts is irrelevant."""

import random

import pytest

from unmask.data.tokenizing.kinds import TOKENIZER_KINDS, train_tokenizer
from unmask.data.tokenizing.number_tokens import is_number_tokenizer
from unmask.data.tokenizing.tokenizers import SPECIAL_TOKENS, Tokenizer

TEXTS = ["the cat sees a house.", "The dog likes water!", "a bird is here, and the cat too", "naïve café 123"] * 5
LOSSLESS = ["bpe", "unigram", "bytes"]
KINDS = [kind for kind in TOKENIZER_KINDS if kind != "ids"]


@pytest.fixture(scope="module")
def trained():
    return {kind: train_tokenizer(kind, TEXTS, 320) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_come_first_and_text_comes_back(trained, kind, tmp_path):
    tokenizer = trained[kind]
    assert [tokenizer.backend.token_to_id(token) for token in SPECIAL_TOKENS.values()] == list(
        range(len(SPECIAL_TOKENS))
    )
    for text in TEXTS[:2]:
        assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")
        assert kind in ("wordpiece", "words") or tokenizer.decode(tokenizer.encode(text)) == text
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint
    assert len(tokenizer) <= 320 and max(tokenizer.encode(" ".join(TEXTS))) < len(tokenizer)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", ["日本語 ☃", "a\tb\n\n  c", "[MASK] is text", "\x00\x7f é"])
def test_byte_level_kinds_write_every_text(trained, kind, text):
    assert trained[kind].decode(trained[kind].encode(text)) == text


@pytest.mark.parametrize("kind", ["characters", "words", "wordpiece"])
def test_what_training_never_saw_is_unknown(trained, kind):
    assert trained[kind].backend.token_to_id("[UNK]") in trained[kind].encode("the ☃ cat")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if TOKENIZER_KINDS[kind].reproducible])
def test_the_order_of_the_texts_is_irrelevant(trained, kind):
    shuffled = random.Random(3).sample(TEXTS, len(TEXTS))
    assert train_tokenizer(kind, shuffled, 320).fingerprint == trained[kind].fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_in_a_prompt_is_one_token_between_what_stands_around_it(trained, kind):
    tokenizer = trained[kind]
    ids = tokenizer.encode("the [MASK] sees", allow_mask=True)
    assert ids.count(tokenizer.mask_token_id) == 1
    assert tokenizer.decode(ids[: ids.index(tokenizer.mask_token_id)]).strip() == "the"


def test_characters_are_tokens_and_the_most_frequent_are_kept():
    tokenizer = train_tokenizer("characters", ["MKVMKM", "MLV"], len(SPECIAL_TOKENS) + 2)
    assert [tokenizer.token_text(i) for i in range(5, 7)] == ["M", "K"] and len(tokenizer) == 7
    assert len(train_tokenizer("words", ["a b", "b c"], 100)) == 8


@pytest.mark.parametrize("kind, vocab_size, texts, message", [
    ("bytes", 100, TEXTS, "at least 261"), ("characters", 5, TEXTS, "at least 6"), ("bpe", 100, TEXTS, "at least"),
    ("characters", 50, [""], "no text"), ("chars", 50, TEXTS, "characters"),
])  # fmt: skip
def test_what_cannot_be_trained_is_refused(kind, vocab_size, texts, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(kind, texts, vocab_size)


def test_ready_ids_keep_their_values():
    tokenizer = train_tokenizer("ids", ["5 7 9", "0 94"], 100)
    assert tokenizer.encode("94 0 7") == [94, 0, 7] and tokenizer.decode([9, 5]) == "9 5"
    assert len(tokenizer) == 100 and tokenizer.mask_token_id == 96
    assert tokenizer.encode("5 [MASK] 9", allow_mask=True) == [5, 96, 9]
    with pytest.raises(ValueError, match="from 0 to 94"):
        train_tokenizer("ids", ["95"], 100)
    with pytest.raises(ValueError, match="'x'"):
        train_tokenizer("ids", ["5 x"], 100)


SPECIAL = {"mask": 0, "pad": 1, "eos": 2, "bos": 3}


def test_ready_ids_keep_the_special_ids_that_they_were_made_with(tmp_path):
    tokenizer = train_tokenizer("ids", ["3 4 5 8", "8 7"], 10, SPECIAL)
    assert len(tokenizer) == 10 and is_number_tokenizer(tokenizer)
    assert tokenizer.all_special_ids == [0, 1, 2, 3, 9] and tokenizer.mask_token_id == 0 and tokenizer.eos_token_id == 2
    assert tokenizer.encode("3 4 2 1 14") == [3, 4, 2, 1, 9] and tokenizer.decode([4, 8, 2]) == "4 8"
    assert tokenizer.encode("4 [MASK] 8", allow_mask=True) == [4, 0, 8]
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint and loaded.special_tokens == tokenizer.special_tokens
    assert train_tokenizer("ids", ["4"], 10, {"mask": 0}).all_special_ids == [0, 7, 8, 9]  # the others are the last ids
    assert not is_number_tokenizer(train_tokenizer("words", ["a b"], 10))


@pytest.mark.parametrize(
    ("special", "text", "words"),
    [
        ({"mask": 10}, "4", "from 0 to 9"),
        ({"mask": 0, "pad": 0}, "4", "mask and pad are both 0"),
        ({"mosk": 0}, "4", "role 'mosk'.*mask"),
        ({"mask": True}, "4", "True"),
        (SPECIAL, "4 10", "'10', and ready ids are whole numbers from 0 to 9"),
        (SPECIAL, "4 0", "the id 0, which is the mask"),
        (SPECIAL, "4 2 5", "the id 2, which is the eos"),
        (None, "5", "room for 5 of them"),
    ],
)
def test_contradictory_special_ids_are_named(special, text, words):
    with pytest.raises(ValueError, match=words):
        train_tokenizer("ids", [text], 10, special)
    if special is not None:
        with pytest.raises(ValueError, match="special_ids"):
            train_tokenizer("words", [text], 10, special)
