"""The text around a mask is returned as it was written and tokenised correctly, for every family of tokenizers."""

import re

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.families import FAMILIES, SENTENCES, family
from unmask.data.prompts import Prompt
from unmask.data.tokenizing.reserved import reserved_ids
from unmask.data.tokenizing.tokenizers import Tokenizer

ALL = {name: family(name) for name in FAMILIES}
written = st.text(st.sampled_from("theca TUx.,(☃日é \n\t#▁Ġ"), max_size=12)
prompts = st.lists(written, min_size=2, max_size=4)


@pytest.mark.parametrize("name", FAMILIES)
@given(prompts, st.data())
@settings(max_examples=40, deadline=None)
def test_the_text_around_masks_is_returned_unchanged(name, pieces, data):
    tokenizer = ALL[name]
    pieces = [piece.replace(tokenizer.mask_token, "") for piece in pieces]
    text = tokenizer.mask_token.join(pieces)
    prompt = Prompt.of(tokenizer, text)
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    row = list(prompt.ids)
    for place in prompt.blanks:
        row[place] = data.draw(st.sampled_from(ordinary))
    filled = prompt.filled(row)
    assert re.fullmatch("(.*)".join(map(re.escape, pieces)), filled, re.DOTALL), (text, filled)
    assert Prompt.of(tokenizer, "Plain ☃ text").filled(tokenizer.encode("Plain ☃ text")) == "Plain ☃ text"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_filling_after_a_space_adds_no_second_space_and_inside_a_word_none(name):
    tokenizer = ALL[name]
    whole = tokenizer.encode("the house")
    house = whole[len(tokenizer.encode("the")) :]
    mask = tokenizer.mask_token
    assert Prompt.of(tokenizer, f"The {mask}.").filled_with([house]) == "The house."
    assert Prompt.of(tokenizer, f"{mask} is").filled_with([tokenizer.encode("house")]) == "house is"
    assert Prompt.of(tokenizer, f"a {mask} {mask}!").filled_with([house, house]) == "a house house!"
    assert Prompt.of(tokenizer, "☃ The").filled_with([house]) == "☃ The house", "a continuation brings its space"


def test_word_pieces_join_words_and_words_stay_separate():
    words = ALL["words"]
    story, mask = words.encode("story"), words.mask_token
    pieces = words.encode("unbelievable")
    assert len(story) == 1
    inside = next(i for i in range(len(words)) if words.token_text(i).startswith("##"))
    letters = words.token_text(inside)[2:]
    assert Prompt.of(words, f"The Cat{mask}.").filled_with([[inside]]) == f"The Cat{letters}."
    assert Prompt.of(words, f"The cat {mask}").filled_with([[inside]]) == f"The cat {letters}", (
        "the space is the user's"
    )
    assert Prompt.of(words, f"({mask})").filled_with([story]) == "(story)"
    assert Prompt.of(words, f"a{mask}{mask}").filled_with([story, story]) == "a story story"
    assert Prompt.of(words, f"an {mask}.").filled_with([pieces]) == "an unbelievable."


def test_a_text_ends_at_the_first_eos_of_a_filling_but_a_given_eos_is_text():
    ours = ALL["ours"]
    house, eos = ours.encode(" house"), ours.eos_token_id
    assert Prompt.of(ours, "a [MASK] [MASK]").filled_with([house, [eos]]) == "a house "
    assert Prompt.of(ours, "[EOS] a [MASK] [EOS]").filled_with([house]) == "[EOS] a house [EOS]"
    assert Prompt.of(ours, "a").filled_with([[*house, eos, *house]]) == "a house"


def test_a_character_of_several_tokens_may_fill_several_masks():
    ours = ALL["ours"]
    star = ours.encode("☃")
    assert len(star) == 3
    assert Prompt.of(ours, "a[MASK][MASK][MASK]b").filled_with([[id] for id in star]) == "a☃b"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "words"])
@pytest.mark.parametrize(
    "masked", ["the cat sees {}.", "the {}, and a dog", "an un{}able story", "{} likes", "{}s", "a {} {} b", "a{}"]
)
def test_text_after_a_mask_gets_no_leading_space(name, masked):
    tokenizer = ALL[name]
    text = masked.format(*[tokenizer.mask_token] * 2)
    read = tokenizer.decode(tokenizer.encode(text, allow_mask=True), skip_special_tokens=False)
    parts, got = text.split(tokenizer.mask_token), read.split(tokenizer.mask_token)
    assert [part.rstrip(" ") for part in got[1:]] == [part.rstrip(" ") for part in parts[1:]]


def test_letters_after_a_mask_continue_its_word_if_the_vocabulary_can():
    words = ALL["words"]
    ids = words.encode(f"un{words.mask_token}able STORY", allow_mask=True)
    behind = [words.token_text(i) for i in ids[ids.index(words.mask_token_id) + 1 :]]
    assert "".join(behind).replace("##", "") == "ablestory" and behind[0].startswith("##") and behind[-1] == "story"
    non_adjacent = words.encode(f"un {words.mask_token} able", allow_mask=True)
    assert non_adjacent[non_adjacent.index(words.mask_token_id) + 1 :] == words.encode("able")
    assert words.encode(f"{words.mask_token}.", allow_mask=True)[1:] == words.encode(".")
    assert words.encode(f"{words.mask_token}☃", allow_mask=True)[1:] == words.encode("☃")


@pytest.mark.parametrize("name", ["bytes", "never", "first", "ours"])
def test_prompts_have_the_ids_of_the_tokenizers_library(name):
    tokenizer = ALL[name]
    theirs = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    for masked in ("the cat {} a house.", "{} is", "the {}", "{}", "the {}{} x", "a dog {}ing", "an un{}able"):
        text = masked.format(*[tokenizer.mask_token] * 2)
        assert tokenizer.encode(text, allow_mask=True) == theirs.encode(text, add_special_tokens=False).ids, text


def test_reserved_tokens_are_special_unless_text_contains_them():
    vocabulary = {
        token: id
        for id, token in enumerate(
            [
                "[PAD]",
                "[UNK]",
                "[MASK]",
                "[unused12]",
                "<null_1>",
                "the",
                "<br>",
                "madeupword0001",
                "<extra_id_7>",
                "<|reserved_special_token_3|>",
            ]
        )
    }
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend, {"mask": "[MASK]"})
    assert [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids] == [
        vocabulary["the"],
        vocabulary["<br>"],
    ]
    assert reserved_ids(ALL["ours"].backend) <= set(ALL["ours"].all_special_ids)
    assert all(SENTENCES) and not {i for i in ALL["ours"].encode("<div> [0] <unused> null")} & set(
        ALL["ours"].all_special_ids
    )
