"""Cutting a text: the pieces join to the text, respect the limit, and end after paragraphs, lines or words."""

from hypothesis import given
from hypothesis import strategies as st

from unmask.data.corpus.sections import cut


@given(st.text(st.sampled_from("ab \n"), max_size=300), st.integers(2, 40))
def test_pieces_join_to_the_text(text, size):
    pieces = cut(text, size)
    assert "".join(pieces) == text
    assert all(len(piece) <= size for piece in pieces)
    assert all(len(piece) >= size // 2 for piece in pieces[:-1])


def test_pieces_end_after_blank_lines_lines_and_words():
    assert cut("one two\n\nthree\nfour", 12) == ["one two\n\n", "three\nfour"]
    assert cut("one two\nthree four", 12) == ["one two\n", "three four"]
    assert cut("one two three four", 10) == ["one two ", "three four"]
    assert cut("ACGT" * 5, 8) == ["ACGTACGT", "ACGTACGT", "ACGT"]
