"""Patterns on texts: for every family of tokenizers the returned text matches and keeps the given spaces."""

import re
from random import Random

import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from tests.naive.decoding import TableModel
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.canvas import Canvas
from unmask.decode.logits.spelling import Spelling
from unmask.decode.loop import fill_canvas
from unmask.decode.rules import Rules
from unmask.text.patterns import fitted, lengths_to_match, pattern_automaton, with_codes

TEXTS = [
    "there are two cats here",
    "a house is a home, and the city has water.",
    "rome is a city; the dog likes the cats",
] * 3
ROLES = {"mask": "<mask>", "pad": "<pad>", "unk": "<unk>"}


def added(text, **options):
    return AddedToken(text, special=True, normalized=False, **options)


def word_pieces():
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = (
        normalizers.BertNormalizer(lowercase=True),
        pre_tokenizers.BertPreTokenizer(),
    )
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend, trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=[added(t) for t in ROLES.values()], show_progress=False
    )


def metaspace(scheme):
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = (
        pre_tokenizers.Metaspace(prepend_scheme=scheme),
        decoders.Metaspace(prepend_scheme=scheme),
    )
    return backend, trainers.BpeTrainer(
        vocab_size=120, special_tokens=[added(t, lstrip=t == "<mask>") for t in ROLES.values()], show_progress=False
    )


def unigram():
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return backend, trainers.UnigramTrainer(
        vocab_size=90, unk_token="<unk>", special_tokens=[added(t) for t in ROLES.values()], show_progress=False
    )


def byte_level(lstrip):
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    specials = [added(t, lstrip=lstrip and t == "<mask>") for t in ROLES.values()]
    return backend, trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def trained(made):
    backend, trainer = made
    backend.train_from_iterator(TEXTS, trainer)
    return Tokenizer(backend, ROLES)


FAMILIES = {
    "word pieces": trained(word_pieces()),
    "metaspace, always": trained(metaspace("always")),
    "metaspace, never": trained(metaspace("never")),
    "unigram": trained(unigram()),
    "byte-level": trained(byte_level(False)),
    "byte-level, lstrip": trained(byte_level(True)),
    "our own": Tokenizer.train(TEXTS, 320),
}
every_family = pytest.mark.parametrize("tokenizer", FAMILIES.values(), ids=FAMILIES.keys())


def fill(tokenizer, text, pattern, seed=0, appended=0):
    """The ids that a uniform network fills a text with under a pattern, and their automaton's layout."""
    special, row = SpecialIds.of(tokenizer), tokenizer.encode(text, allow_mask=True)
    rules = fitted(Rules(2, constraint=pattern_automaton(tokenizer, pattern)), tokenizer, [text], [row], appended)
    canvas = Canvas.infill(torch.tensor([[*row, *[special.mask] * appended]]), special)
    model = TableModel(torch.zeros(canvas.ids.shape[1], special.vocab_size))
    ids = fill_canvas(model, canvas, rules, special=special, seed=seed).ids[0].tolist()
    return row, [i for i, was in zip(ids, [*row, *[special.mask] * appended], strict=True) if was == special.mask]


def read(tokenizer, ids):
    """Return the text that ids add after a word, without the space in front."""
    anchor = tokenizer.encode("the")
    return tokenizer.decode([*anchor, *ids])[len(tokenizer.decode(anchor)) :].removeprefix(" ")


@every_family
def test_spellings_join_to_what_the_tokenizer_decodes(tokenizer):
    spelling, random, special = Spelling.of_tokenizer(tokenizer), Random(0), SpecialIds.of(tokenizer)
    words = [i for i in range(tokenizer.vocab_size) if i not in special.all and spelling.behind[i] is not None]
    assert all(spelling.behind[i] is None for i in special.all)
    for _ in range(200):
        ids = random.choices(words, k=4)
        if spelling.continues is not None:
            ids = [i for i in ids if spelling.behind[i].isalpha()]
            text = b"".join(spelling.behind[i] if spelling.continues[i] else b" " + spelling.behind[i] for i in ids)
        else:
            text = b"".join(spelling.behind[i] for i in ids)
        assert text.decode("utf-8", "replace").removeprefix(" ") == read(tokenizer, ids)


@every_family
@pytest.mark.parametrize("pattern", ["a house|the city", "[a-z]+ [a-z]+", "(cats|dog), (house|home)"])
def test_a_run_of_blanks_separated_by_spaces_matches_with_them(tokenizer, pattern):
    text = (
        "rome is "
        + " ".join([tokenizer.mask_token] * 6 if "," in pattern or "[" in pattern else [tokenizer.mask_token] * 2)
        + "."
    )
    found = 0
    for seed in range(4):
        try:
            _, ids = fill(tokenizer, text, pattern, seed)
        except ValueError as error:
            assert "accepts no filling" in str(error) or "No sequence" in str(error)  # six words where two are meant
            continue
        found += 1
        spelling = Spelling.of_tokenizer(tokenizer)
        written = " ".join(
            (spelling.behind_space[i] or b"").decode("utf-8", "replace") for i in ids
        )  # a given space between any two
        assert re.fullmatch(pattern, written), written
    assert (
        found
        or pattern != "a house|the city"
        or any(len(tokenizer.encode(f"x {w}")) > 3 for w in ("a", "house", "the", "city"))
    )


@every_family
@pytest.mark.parametrize("pattern", ["[0-9]{2} (cats|dogs)", "[a-z]{3,9}", r"\w+ \w+"])
def test_blanks_side_by_side_match_and_keep_the_space_before_them(tokenizer, pattern):
    blanks = tokenizer.mask_token * 7
    text = f"there are {blanks} here"
    try:
        _, ids = fill(tokenizer, text, pattern)
    except ValueError as error:
        assert "No sequence" in str(error) and "0-9" in pattern  # a vocabulary without digits
        return
    written = read(tokenizer, ids)
    assert re.fullmatch(pattern, written), written
    if tokenizer is FAMILIES["our own"]:
        assert tokenizer.decode(ids).startswith(" ")  # the mask took the space, and the filling brings it


@every_family
def test_a_pattern_that_begins_with_a_space_means_the_given_one(tokenizer):
    text = f"there are {tokenizer.mask_token * 4} here"
    assert fill(tokenizer, text, " [a-z]+") == fill(tokenizer, text, "[a-z]+")


def test_a_filling_adds_no_space_where_the_text_has_none():
    tokenizer = FAMILIES["our own"]
    for text in (f"({tokenizer.mask_token * 3})", f"{tokenizer.mask_token * 3} is", f"un{tokenizer.mask_token * 3}"):
        _, ids = fill(tokenizer, text, "[a-z]+")
        assert re.fullmatch("[a-z]+", tokenizer.decode(ids))


def test_behind_a_word_only_a_piece_that_continues_it_may_follow():
    tokenizer = FAMILIES["word pieces"]
    spelling = Spelling.of_tokenizer(tokenizer)
    for text, continues in (
        (f"ho{tokenizer.mask_token}", True),
        (f"a {tokenizer.mask_token}", False),
        (f"({tokenizer.mask_token}", False),
    ):
        _, ids = fill(tokenizer, text, "[a-z]+")
        assert spelling.continues[ids[0]] == continues, text


def test_a_space_that_no_filling_can_include_stays_in_the_text():
    tokenizer = FAMILIES["our own"]
    _, ids = fill(tokenizer, f"there are {tokenizer.mask_token} here", "[0-9]")
    assert re.fullmatch("[0-9]", tokenizer.decode(ids))


def test_lengths_include_the_space_of_a_filling():
    tokenizer, before = FAMILIES["our own"], "there are "
    rules = Rules(2, constraint=pattern_automaton(tokenizer, "[0-9]"))
    code, lengths = lengths_to_match(rules, tokenizer, before, range(1, 4))
    assert lengths == [2]
    assert with_codes(rules, [(3, code)], 5).constraint.layout.tolist() == [[0, 0, 0, code, 0]] and code
    assert lengths_to_match(rules, tokenizer, before, [1])[1] == [1]
    assert lengths_to_match(Rules(2), tokenizer, before, range(1, 4))[1] == [1, 2, 3]
    assert with_codes(Rules(2), [(3, code)], 5) == Rules(2)


@every_family
def test_a_continuation_matches_behind_a_prompt_with_a_space(tokenizer):
    _, ids = fill(tokenizer, "rome is ", "[a-z]+ [a-z]+", appended=5)
    assert re.fullmatch("[a-z]+ [a-z]+", read(tokenizer, ids))
