"""Laws of the regular expressions: tokens are accepted exactly where re.fullmatch accepts their text, and decoding obeys."""

import itertools
import re

import pytest
import torch

from tests.naive.decoding import FIRST_WORD, MASK, TableModel, specials
from unmask.decode.canvas import Canvas
from unmask.decode.loop import unmask
from unmask.decode.regex import regex_automaton
from unmask.decode.rules import Rules

WORDS = ["a", "b", "ab", "ba", "abb", "1", "-", " a", "2b", "\n"]
SPECIAL = specials(len(WORDS))
TEXTS = [None] * FIRST_WORD + WORDS


def matches(automaton, ids):
    state = automaton.start
    for i in ids:
        state = automaton.step(state, i)
        if state < 0:
            return False
    return bool(automaton.accepting[state])


@pytest.mark.parametrize(
    "pattern",
    [
        "ab", "a|b", "(a|b)*", "a*b*", "(ab)+", "a?b?a", ".*", "[ab]+1?", "[^a-b]*", "a{2}", "a{1,3}b", "(ab){2,}", "(?:a|ba){0,2}",
        r"\d+", r"\D*", r"\w+", r"\s\w", r"\S+", r"[\d-]+", r"1-2b", r"(a(b|1)*)+", "[]a]+", "[a-]+", r"a\n", "|a", "(|a)b", r"[^\d]b", "a.b",
    ],
)  # fmt: skip
def test_it_accepts_what_re_accepts(pattern):
    automaton = regex_automaton(pattern, TEXTS, SPECIAL)
    words = range(FIRST_WORD, FIRST_WORD + len(WORDS))
    for n in range(1, 4):
        for ids in itertools.product(words, repeat=n):
            text = "".join(TEXTS[i] for i in ids)
            assert matches(automaton, ids) == bool(re.fullmatch(pattern, text)), text
    assert not any(automaton.step(state, i) >= 0 for state in range(len(automaton.accepting)) for i in range(FIRST_WORD))


@pytest.mark.parametrize("max_steps", [1, 3, 6])
def test_every_run_of_blanks_is_matched_by_itself_at_any_number_of_steps(max_steps):
    automaton = regex_automaton("(ab|1)-?[12]b?", TEXTS, SPECIAL)
    row = [FIRST_WORD, MASK, MASK, FIRST_WORD + 9, FIRST_WORD + 9, MASK, MASK, MASK, FIRST_WORD]
    canvas = Canvas.infill(torch.tensor([row] * 60), SPECIAL)
    uniform = TableModel(torch.zeros(len(row), SPECIAL.vocab_size))
    ids = unmask(uniform, canvas, Rules(max_steps, constraint=automaton), special=SPECIAL, seed=0).ids
    for found in ids.tolist():
        for run in (found[1:3], found[5:8]):
            assert re.fullmatch("(ab|1)-?[12]b?", "".join(TEXTS[i] for i in run))
    assert len(ids.unique(dim=0)) > 5
    # A run that no filling matches is refused before anything is placed, wherever it stands.
    for runs in ([MASK] * 6, [MASK] * 2 + [FIRST_WORD] + [MASK] * 6, [MASK] * 6 + [FIRST_WORD] + [MASK] * 2):
        asked = uniform.evaluations
        with pytest.raises(ValueError, match=f"accepts no filling of row 0: {runs.count(MASK)} blanks"):
            unmask(uniform, Canvas.infill(torch.tensor([runs]), SPECIAL), Rules(2, constraint=automaton), special=SPECIAL, seed=0)
        assert uniform.evaluations <= asked + 1


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("a(b", "open group"), ("ab)", "not opened"), ("*a", "only after a character"), ("^a", "anchor"), ("a*?", "lazy"),
        ("(?=a)", "look-around"), (r"(a)\1", "no escape"), ("[b-a]", "backwards"), ("[ab", "open"), ("a{2,1}", "smaller first"),
        ("a{x}", "{m,n}"), ("a\\", "no escape"), ("z", "No sequence"), ("(a|b)*a(a|b){12}", "512 states"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_read_is_refused(pattern, hint):
    with pytest.raises(ValueError, match=re.escape(hint)):
        regex_automaton(pattern, TEXTS, SPECIAL)
