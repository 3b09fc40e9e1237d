"""Regular expressions: tokens are accepted exactly if re.fullmatch accepts their text, also in a decode."""

import itertools
import re
from random import Random

import pytest
import torch

from tests.naive.decoding import FIRST_WORD, MASK, TableModel, specials
from unmask.decode.canvas import Canvas
from unmask.decode.logits.regex import regex_automaton
from unmask.decode.loop import fill_canvas
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
def test_it_accepts_the_texts_that_re_matches(pattern):
    automaton = regex_automaton(pattern, TEXTS, SPECIAL)
    words = range(FIRST_WORD, FIRST_WORD + len(WORDS))
    for n in range(1, 4):
        for ids in itertools.product(words, repeat=n):
            text = "".join(TEXTS[i] for i in ids)
            assert matches(automaton, ids) == bool(re.fullmatch(pattern, text)), text
    assert not any(
        automaton.step(state, i) >= 0 for state in range(len(automaton.accepting)) for i in range(FIRST_WORD)
    )


@pytest.mark.parametrize("max_steps", [1, 3, 6])
def test_every_masked_span_is_matched_by_itself_at_any_number_of_steps(max_steps):
    automaton = regex_automaton("(ab|1)-?[12]b?", TEXTS, SPECIAL)
    row = [FIRST_WORD, MASK, MASK, FIRST_WORD + 9, FIRST_WORD + 9, MASK, MASK, MASK, FIRST_WORD]
    canvas = Canvas.infill(torch.tensor([row] * 60), SPECIAL)
    uniform = TableModel(torch.zeros(len(row), SPECIAL.vocab_size))
    ids = fill_canvas(uniform, canvas, Rules(max_steps, constraint=automaton), special=SPECIAL, seed=0).ids
    for found in ids.tolist():
        for run in (found[1:3], found[5:8]):
            assert re.fullmatch("(ab|1)-?[12]b?", "".join(TEXTS[i] for i in run))
    assert len(ids.unique(dim=0)) > 5
    # A run that no filling matches is refused before anything is placed, wherever it stands.
    for runs in ([MASK] * 6, [MASK] * 2 + [FIRST_WORD] + [MASK] * 6, [MASK] * 6 + [FIRST_WORD] + [MASK] * 2):
        asked = uniform.forward_passes
        with pytest.raises(ValueError, match=f"accepts no filling of row 0: {runs.count(MASK)} blanks"):
            fill_canvas(
                uniform,
                Canvas.infill(torch.tensor([runs]), SPECIAL),
                Rules(2, constraint=automaton),
                special=SPECIAL,
                seed=0,
            )
        assert uniform.forward_passes <= asked + 1


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("a(b", "unterminated subpattern"), ("ab)", "unbalanced parenthesis"), ("*a", "nothing to repeat"), ("^a", "anchors"), (r"a\b", "anchors"),
        ("(?=a)", "look-around"), ("(?<!a)b", "look-around"), (r"(a)\1", "back-reference"), ("(a)?(?(1)b|c)", "condition"), ("a*+a", "possessive"),
        ("(?>a)", "atomic"), ("[b-a]", "bad character range"), ("[ab", "unterminated character set"), ("a{2,1}", "min repeat greater"),
        ("a\\", "bad escape"), ("z", "No sequence"), ("(a|b)*a(a|b){12}", "512 states"), ("a{600}", "more than 512 times"),
        ("((a{400}){400}){400}", "too large"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_read_is_refused(pattern, hint):
    with pytest.raises(ValueError, match=re.escape(hint)):
        regex_automaton(pattern, TEXTS, SPECIAL)


BYTES = [None] * FIRST_WORD + [bytes([byte]) for byte in range(256)]
ATOMS = [
    "a", "b", "é", "名", "😀", "K", "ß", ".", "-", "[a-c]", "[^a]", r"\d", r"\w", r"\s", r"\W", r"\S", r"[\x41-\x5A]", r"[\t-\r]", r"[^\s,]", r"[\w-]",
    "[一-龥]", "[é-ü]", r"\u00e9", r"\.", r"[\0-\x08]",
]  # fmt: skip
REPEATS = ["", "", "", "*", "+", "?", "{2}", "{,2}", "{1,}", "{1,2}", "*?", "+?", "??", "{,2}?"]
CHARACTERS = "abcABCKZé名前😀 \t\n\v\r,-_.0٣ßſ\u212aüÉ\x85\u2028"


def drawn_pattern(random, depth=0):
    parts = []
    for _ in range(random.randint(1, 3)):
        group = random.choice(["({})", "(?:{})", "(?i:{})", "(?s:{})", "(?a:{})"])
        part = (
            group.format(drawn_pattern(random, depth + 1))
            if depth < 2 and random.random() < 0.3
            else random.choice(ATOMS)
        )
        parts.append(part + random.choice(REPEATS))
    return "".join(parts) + ("|" + drawn_pattern(random, depth + 1) if random.random() < 0.3 else "")


@pytest.mark.parametrize("seed", range(20))
def test_byte_tokens_spell_the_texts_that_re_matches(seed):
    random = Random(seed)
    pattern = drawn_pattern(random)
    automaton = regex_automaton(pattern, BYTES, specials(256))
    for _ in range(150):
        text = "".join(random.choice(CHARACTERS) for _ in range(random.randint(1, 4)))
        assert matches(automaton, [FIRST_WORD + byte for byte in text.encode()]) == bool(re.fullmatch(pattern, text)), (
            pattern,
            text,
        )


@pytest.mark.parametrize(("pattern", "yes", "no"), [
    (r"[\x41-\x5A]", "A", "a"), (r"[\t-\r]", "\v", "a"), ("a{,2}", "aa", "aaa"), ("café", "café", "cafe"), ("名前", "名前", "名"), (r"\w{3}", "été", "ét"),
    ("a+?", "aa", "b"), ("(?i)straße", "STRAßE", "strasse"), ("(?x) a b", "ab", "a b"),
])  # fmt: skip
def test_patterns_by_hand(pattern, yes, no):
    automaton = regex_automaton(pattern, BYTES, specials(256))
    assert [matches(automaton, [FIRST_WORD + byte for byte in text.encode()]) for text in (yes, no)] == [True, False]


def test_invalid_utf8_is_not_accepted():
    automaton = regex_automaton(".|\n", BYTES, specials(256))
    for data in (
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xe4\xb8",
        b"\x80",
        b"\xff",
    ):
        assert not matches(automaton, [FIRST_WORD + byte for byte in data]), data
    for text in ("\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"):
        assert matches(automaton, [FIRST_WORD + byte for byte in text.encode()]), text


@pytest.mark.parametrize("max_steps", [1, 4])
def test_partial_characters_are_placed_as_complete_ones(max_steps):
    special = specials(256)
    automaton = regex_automaton("[名前é]+", BYTES, special)
    canvas = Canvas.infill(torch.full((20, 8), MASK), special)
    ids = fill_canvas(
        TableModel(torch.zeros(8, special.vocab_size)),
        canvas,
        Rules(max_steps, constraint=automaton),
        special=special,
        seed=0,
    ).ids
    texts = [bytes(id - FIRST_WORD for id in row).decode() for row in ids.tolist()]
    assert all(re.fullmatch("[名前é]+", text) for text in texts) and len(set(texts)) > 3
