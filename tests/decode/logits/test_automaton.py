"""Automata: all sampled fillings are accepted, and all accepted fillings can be sampled."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive.decoding import EOS, FIRST_WORD, MASK, PAD, TableModel, accepted, specials, table
from unmask.decode.canvas import Canvas
from unmask.decode.logits.automaton import Automaton
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.scores import ConfidenceOrder, LeftToRight
from unmask.decode.orders.selector import Selector
from unmask.decode.rules import Rules
from unmask.ops.confidence import top_prob

WORDS = 3
SPECIAL = specials(WORDS)
VOCAB = range(FIRST_WORD, FIRST_WORD + WORDS)


def decode(automaton, ids, rows=1, max_steps=3, selector=None, **options):
    canvas = Canvas.infill(torch.tensor([ids] * rows), SPECIAL)
    model = TableModel(table([[1.0, 1.0, 1.0]] * len(ids)))
    rules = Rules(max_steps, selector or Selector(), constraint=automaton, **options)
    return fill_canvas(model, canvas, rules, special=SPECIAL, seed=0)


automata = st.builds(
    lambda moves, accepting: Automaton(torch.tensor(moves), torch.tensor(accepting), SPECIAL),
    st.lists(
        st.lists(st.integers(-1, 3), min_size=SPECIAL.vocab_size, max_size=SPECIAL.vocab_size), min_size=4, max_size=4
    ),
    st.lists(st.booleans(), min_size=4, max_size=4),
)


@settings(deadline=None)
@given(
    automata,
    st.lists(st.sampled_from([MASK, MASK, FIRST_WORD, FIRST_WORD + 1]), min_size=1, max_size=5).filter(
        lambda r: MASK in r
    ),
    st.integers(1, 5),
)
def test_fillings_are_accepted_by_the_automaton_or_refused(automaton, ids, max_steps):
    first = ids.index(MASK)
    fillings = set()
    for words in itertools.product(VOCAB, repeat=ids.count(MASK)):
        supply = iter(words)
        row = [next(supply) if i == MASK else i for i in ids]
        if accepted(automaton, row[first:]):
            fillings.add(tuple(row))
    if not fillings:
        with pytest.raises(ValueError, match="accepts no filling of row 0"):
            decode(automaton, ids, max_steps=max_steps)
        return
    drawn = {tuple(row) for row in decode(automaton, ids, rows=12, max_steps=max_steps).ids.tolist()}
    assert drawn <= fillings


def test_every_accepted_filling_can_be_drawn():
    # Two equal neighbours are not allowed: state = the last word, 3 = none yet.
    moves = torch.full((4, SPECIAL.vocab_size), -1)
    for state in range(4):
        for word in range(WORDS):
            if word != state:
                moves[state, FIRST_WORD + word] = word
    automaton = Automaton(moves, torch.ones(4, dtype=torch.bool), SPECIAL, start=3)
    for max_steps, selector in ((1, None), (2, Selector(ConfidenceOrder(top_prob))), (4, Selector(LeftToRight()))):
        drawn = {
            tuple(row)
            for row in decode(automaton, [MASK] * 4, rows=600, max_steps=max_steps, selector=selector).ids.tolist()
        }
        assert len(drawn) == 3 * 2 * 2 * 2


def test_required_ids_appear():
    automaton = Automaton.requiring([FIRST_WORD, FIRST_WORD + 2], SPECIAL)
    for max_steps in (1, 2, 5):
        ids = decode(automaton, [FIRST_WORD + 1, MASK, MASK, FIRST_WORD + 1, MASK], rows=200, max_steps=max_steps).ids
        assert (ids == FIRST_WORD).any(-1).all() and (ids == FIRST_WORD + 2).any(-1).all()
        assert len(ids.unique(dim=0)) > 5
    with pytest.raises(ValueError, match="accepts no filling"):
        decode(automaton, [FIRST_WORD + 1, MASK])
    with pytest.raises(ValueError, match="are special"):
        Automaton.requiring([EOS], SPECIAL)


def test_a_pattern_has_one_set_of_ids_per_position():
    automaton = Automaton.pattern([[FIRST_WORD], [FIRST_WORD + 1, FIRST_WORD + 2], [FIRST_WORD]], SPECIAL)
    ids = decode(automaton, [PAD, FIRST_WORD, MASK, MASK, MASK], rows=40, max_steps=1).ids
    assert (ids[:, 2] == FIRST_WORD).all() and (ids[:, 4] == FIRST_WORD).all()
    assert set(ids[:, 3].tolist()) == {FIRST_WORD + 1, FIRST_WORD + 2}
    with pytest.raises(ValueError, match="2 blanks in 2 tokens"):
        decode(automaton, [MASK, MASK])


def test_confidence_is_over_the_ids_the_automaton_allows():
    # Position 1 has one word left to choose from: it is certain, though the model is not.
    automaton = Automaton.pattern([list(VOCAB), [FIRST_WORD], list(VOCAB)], SPECIAL)

    class First:
        def update_history(self, step_results):
            if step_results["step"] == 0:
                self.confidence, self.committed = step_results["confidence"], step_results["committed"]

    first = First()
    canvas = Canvas.infill(torch.tensor([[MASK] * 3]), SPECIAL)
    rules = Rules(3, Selector(ConfidenceOrder(top_prob)), constraint=automaton)
    fill_canvas(
        TableModel(table([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])),
        canvas,
        rules,
        special=SPECIAL,
        seed=0,
        observers=[first],
    )
    assert first.committed.tolist() == [[False, True, False]] and first.confidence[0, 1] == 1.0


def test_a_malformed_automaton_is_refused():
    with pytest.raises(ValueError, match="An automaton of 2 states"):
        Automaton(torch.tensor([[0, 2], [0, 1]]), torch.tensor([True, False]), SPECIAL)
