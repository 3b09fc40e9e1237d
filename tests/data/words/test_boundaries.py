"""Unicode word boundaries, compared with another implementation and the examples of the annex."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniseg.wordbreak import words

from unmask.data.words.boundaries import word_boundaries


def cut(text):
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    places = [*np.flatnonzero(word_boundaries(codes)), len(text)]
    return [text[start:stop] for start, stop in pairwise(places)]


ALPHABET = "abe1٣ .,:;'\"’·_אבアあ一한жक्िับ\u0301\u200d\u00ad\ufe0f😀🇩🇫👍🏽👩💻\n\r\t\u00a0\u2028ℹⓂ!="


@given(st.text(ALPHABET, max_size=12))
@settings(max_examples=1500, deadline=None)
def test_boundaries_are_those_of_another_implementation(text):
    joined = text.replace("\r", "").replace(
        "  ", ""
    )  # white space always begins a word here, so its runs do not matter
    assert cut(joined) == list(words(joined))


@pytest.mark.parametrize(
    "text",
    [
        "can't|,| |3.14|,| |1,000|,| |x1|,| |name_1|.",
        "привет| |мир",
        "नमस्ते| |दुनिया",
        "你|好|，|世|界",
        "ひ|ら|カタカナ",
        "ส|วั|ส|ดี",
        "한국어| |말",
        "👨‍👩‍👧🏽|🇩🇪|🇫🇷|🇩",
        'צה"ל|!',
        "'|and|'",
    ],
)
def test_examples(text):
    assert cut(text.replace("|", "")) == text.split("|")
