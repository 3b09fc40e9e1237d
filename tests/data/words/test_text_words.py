"""Words, for every tokenizer family, and masking that respects them."""

import json
import pickle
import re

import pytest
import tokenizers
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers
from uniseg.wordbreak import word_boundaries

from unmask.data.words.text_words import word_table

TEXT = [
    "the reader masks some words (twice), then x1 = 3.14 isn't unmasked; naïve readers' unmask_words a.b:c again", "masking re-reads 7 of 1,000",
    "привет мир, новый город говорит", "नमस्ते दुनिया क्योंकि", "你好，世界。ひらがなカタカナ", "ภาษาไทยดีมาก", "مرحبا بالعالم كِتَاب", "צה\"ל ג'ירפה",
    "한국어 문장입니다", "👨‍👩‍👧🏽 🇩🇪🇫🇷🇩 👍🏽x", "e\u0301a \u0301b\r\n\tc\u200dd",
]  # fmt: skip


def trained(model, pre_tokenizer, decoder, trainer):
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer, made.decoder = pre_tokenizer, decoder
    made.train_from_iterator(TEXT * 20, trainer)
    return made


def families():
    specials = ["[UNK]", "[MASK]"]
    options = {"special_tokens": specials, "show_progress": False}
    letters = sorted(set("".join(TEXT)) - {" "})
    yield "word-piece", trained(
        models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(),
        trainers.WordPieceTrainer(vocab_size=400, initial_alphabet=letters, **options),
    )  # fmt: skip
    for size in (260, 290, 500):  # the smallest has hardly a whole character beyond ASCII
        yield f"byte-level {size}", trained(
            models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(),
            trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options),
        )  # fmt: skip
    yield "unigram", trained(
        models.Unigram(), pre_tokenizers.Metaspace(), decoders.Metaspace(),
        trainers.UnigramTrainer(vocab_size=400, initial_alphabet=letters, unk_token="[UNK]", **options),
    )  # fmt: skip
    yield "bpe with bytes", with_bytes(letters, options)


def with_bytes(letters, options):
    """Metaspace BPE, as SentencePiece exports it, in which characters that are not in the vocabulary are bytes."""
    kept = [letter for letter in letters if not "一" <= letter <= "鿿" and letter not in "ия👍"]
    texts = ["".join(c for c in text if c in kept or c == " ") for text in TEXT]
    made = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]", byte_fallback=True))
    made.pre_tokenizer, made.decoder = (
        pre_tokenizers.Metaspace(),
        decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    )
    options = options | {"special_tokens": [*options["special_tokens"], *(f"<0x{byte:02X}>" for byte in range(256))]}
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, **options))
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:2]  # the bytes are ordinary tokens
    return tokenizers.Tokenizer.from_str(json.dumps(content))


FAMILIES = dict(families())
TABLES = {name: word_table(backend) for name, backend in FAMILIES.items()}


def expected(backend, text):
    """Word starts by definition: the text has a boundary of UAX #29 where a token begins, and white space goes with what follows."""
    encoded = backend.encode(text, add_special_tokens=False)
    boundaries = set(word_boundaries(text))
    begun, starts, reached = set(), [], 0
    for start, stop in encoded.offsets:
        whole = start not in begun and start >= reached  # several tokens of one character have its offsets each
        after_space = text[:start][-1:].isspace() and text[start - 1] not in "\r\n"
        starts.append(text[start].isspace() or (whole and start in boundaries and not after_space))
        begun.add(start)
        reached = max(reached, stop)
    return encoded.ids, starts


scripts = st.sampled_from([*TEXT, *" .,:'\"_1a٣א한あア字ж्👍🇩\u200d\u0301\n", "’", "don't", "3.14", "👩‍💻"])
pieces = st.lists(
    st.tuples(scripts, st.integers(0, 9), st.integers(0, 12)).map(lambda p: p[0][p[1] : p[1] + p[2]] or p[0]),
    max_size=8,
)


@pytest.mark.parametrize("name", FAMILIES)
@given(pieces=pieces)
@settings(max_examples=60, deadline=None)
def test_words_begin_at_unicodes_word_boundaries_and_never_inside_a_character(name, pieces):
    backend = FAMILIES[name]
    text = re.sub(
        r"(^|[\s.,:;'\"’!()=_-])[\u0301\u0325\u200d\u064d\u064e\u0650-\u0652\u093e-\u094d🏽\u0e31-\u0e4e]+",
        r"\1",
        "".join(pieces),
    )  # a mark marks a letter
    ids, starts = expected(backend, text)
    tokens = [backend.id_to_token(id) for id in ids]
    assume(tokens and "[UNK]" not in tokens)
    if name == "word-piece":  # what does not go on with ## starts a word
        starts = [start or not token.startswith("##") for start, token in zip(starts, tokens, strict=True)]
    rows = torch.tensor([ids, ids])
    found = TABLES[name].word_starts(rows, torch.ones_like(rows, dtype=torch.bool)).tolist()
    assert found == [[True, *starts[1:]]] * 2, tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_a_word_is_hidden_whole_in_every_script(name):
    backend, table = FAMILIES[name], TABLES[name]
    for text, word in [
        ("привет мир, новый", "новый"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("مرحبا بالعالم", "بالعالم"),
        ("한국어 문장입니다", "문장입니다"),
        ("then x1 = 3.14 isn't", "3.14"),
    ]:
        encoded = backend.encode(text, add_special_tokens=False)
        ids = torch.tensor([encoded.ids])
        begins, at = table(ids, torch.ones_like(ids, dtype=torch.bool))[0].tolist(), text.index(word)
        own = {
            begin
            for begin, (start, stop) in zip(begins, encoded.offsets, strict=True)
            if start < at + len(word) and stop > at
        }
        assert len(own) == 1 or (name == "word-piece" and not word.isalpha())  # its pre-tokenizer cuts 3.14


def test_what_may_not_be_hidden_ends_words_in_every_script():
    ids = torch.tensor([FAMILIES["byte-level 260"].encode("приветмир", add_special_tokens=False).ids])
    eligible = torch.ones_like(ids, dtype=torch.bool)
    eligible[0, 4:6] = False
    assert TABLES["byte-level 260"](ids, eligible).unique().tolist() == [0, 4, 5, 6]


def test_a_suffix_ends_words_and_a_table_travels_to_workers():
    backend = tokenizers.Tokenizer(
        models.BPE({"un": 0, "mask</w>": 1, "ed</w>": 2, "a": 3}, [], end_of_word_suffix="</w>")
    )
    table = pickle.loads(pickle.dumps(word_table(backend)))
    ids = torch.tensor([[0, 1, 2, 3, 0, 1, 0]])
    assert table(ids, torch.ones_like(ids, dtype=torch.bool)).tolist() == [[0, 0, 2, 3, 3, 3, 6]]


def test_unmasks_own_tokenizer_and_transformers_agree(tokenizer):
    ours, theirs = word_table(tokenizer), word_table(tokenizer.to_transformers())
    assert (
        torch.equal(ours.begins, theirs.begins) and torch.equal(ours.ends, theirs.ends) and ours.texts == theirs.texts
    )
    assert len(ours.begins) == len(tokenizer)


def test_names_and_numbers_are_words_and_symbols_are_words_of_their_own(tokenizer):
    table = word_table(tokenizer)
    ids = torch.tensor([tokenizer.encode("f(x12) = name_1")])
    first = table(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    words = [tokenizer.decode(ids[0][first == index]) for index in first.unique()]
    assert words == ["f", "(", "x12", ")", " =", " name_1"]


def test_word_level_tokens_are_words_and_specials_end_them():
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "[S]": 2}, unk_token="a"))
    ids = torch.tensor([[0, 1, 0, 2, 1]])
    assert word_table(backend)(ids, torch.ones_like(ids, dtype=torch.bool)).tolist() == [[0, 1, 2, 3, 4]]
    piece = word_table(FAMILIES["word-piece"])
    continuing = FAMILIES["word-piece"].token_to_id("##e")
    eligible = torch.tensor([[True, True, False, True, True]])
    assert piece(torch.full((1, 5), continuing), eligible).tolist() == [[0, 0, 2, 3, 3]]


def test_what_is_no_fast_tokenizer_is_refused():
    with pytest.raises(ValueError, match="need a fast tokenizer"):
        word_table(object())
