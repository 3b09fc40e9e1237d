"""Blanks as they are typed: lengths and ranges."""

import pytest

import unmask
from unmask.text.blanks import TypedText


@pytest.fixture(scope="module")
def model(trained):
    return unmask.load(trained)


def test_lengths_and_ranges_are_read(model):
    typed = TypedText.of(model.tokenizer, "a [MASK] b [MASK:3][MASK:2-6] [MASK:x]")
    assert typed.ranges == ((1, 1), (3, 3), (2, 6)) and typed.is_open and typed.longest == 10
    assert TypedText.of(model.tokenizer, "nothing [here]").ranges == ()


def test_a_length_is_as_many_masks(model):
    for options in ({}, {"order": "random", "temperature": 1.0, "seed": 3}):
        assert (
            model.fill("the [MASK:3] dog.", **options).text == model.fill("the [MASK][MASK][MASK] dog.", **options).text
        )


def test_a_range_from_one_is_a_search_up_to_its_end(model):
    ranged, searched = model.fill("the [MASK:1-4] dog."), model.fill("the [MASK] dog.", longest=4)
    assert (ranged.text, ranged.blanks, ranged.steps) == (searched.text, searched.blanks, searched.steps)


def test_each_blank_keeps_its_range(model):
    texts = ["the [MASK:2-3] sees [MASK:4].", "the [MASK].", "the cat"]
    filled = model.fill(texts)
    assert [f.prompt for f in filled] == texts and filled[2].text == "the cat"
    assert filled[0].text == model.fill(texts[0]).text and filled[0].text.startswith("the ")


@pytest.mark.parametrize("text", ["[MASK:0]", "[MASK:3-2]"])
def test_a_blank_without_a_length_is_refused(model, text):
    with pytest.raises(ValueError, match="has no length"):
        model.fill(text)
