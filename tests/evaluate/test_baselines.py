"""Counting models: equal to dictionaries of counts, proper distributions, and one protocol with the networks."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from unmask.contracts import SpecialIds
from unmask.evaluate.baselines import UNKNOWN, NeighbourModel, UnigramModel
from unmask.evaluate.counting import ContextTable
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.windows import Windows

V = 9
SPECIAL = SpecialIds(mask=1, vocab_size=V, pad=0, eos=2)
ORDINARY = range(3, V)


def documents(count=40, seed=0):
    draw = np.random.default_rng(seed)
    words = [draw.choice(6, draw.integers(0, 12), p=[0.4, 0.3, 0.15, 0.1, 0.05, 0.0]) + 3 for _ in range(count)]
    return [[*ids.tolist(), 2] for ids in words]


def stream():
    return np.concatenate(documents()).astype(np.uint16)


def naive_conditional(docs, left, right, one_side=50.0, both_sides=10.0):
    """Written from the module's formulas with dictionaries."""
    single, after, before, between = Counter(), Counter(), Counter(), Counter()
    for doc in docs:
        for i, x in enumerate(doc):
            if x == 2:
                continue
            single[x] += 1
            if i > 0:
                after[doc[i - 1], x] += 1
            before[doc[i + 1], x] += 1
            if i > 0:
                between[doc[i - 1], doc[i + 1], x] += 1
    total = sum(single.values()) + len(ORDINARY)
    p = {x: (single[x] + 1) / total for x in ORDINARY}

    def beside(counts, neighbour):
        seen = sum(counts[neighbour, y] for y in ORDINARY)
        return {x: (counts[neighbour, x] + one_side * p[x]) / (seen + one_side) for x in ORDINARY}

    if left == UNKNOWN and right == UNKNOWN:
        return p
    if right == UNKNOWN:
        return beside(after, left)
    if left == UNKNOWN:
        return beside(before, right)
    a, b = beside(after, left), beside(before, right)
    q = {x: a[x] * b[x] / p[x] for x in ORDINARY}
    norm = sum(q.values())
    seen = sum(between[left, right, y] for y in ORDINARY)
    return {x: (between[left, right, x] + both_sides * q[x] / norm) / (seen + both_sides) for x in ORDINARY}


CONTEXTS = np.array(list(itertools.product([UNKNOWN, *ORDINARY], [UNKNOWN, 2, *ORDINARY])))


@pytest.mark.parametrize("constants", [(50.0, 10.0), (3.0, 1.0)])
def test_conditionals_equal_dictionaries(constants):
    found = NeighbourModel(stream(), SPECIAL, V, *constants).conditionals(CONTEXTS)
    for (left, right), row in zip(CONTEXTS.tolist(), found, strict=True):
        expected = naive_conditional(documents(), left, right, *constants)
        assert row[list(ORDINARY)] == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize(
    "model", [NeighbourModel(stream(), SPECIAL, V), UnigramModel(np.bincount(stream(), minlength=V), SPECIAL)]
)
def test_each_conditional_is_a_distribution_over_ordinary_tokens(model):
    found = model.conditionals(CONTEXTS)
    assert np.allclose(found.sum(-1), 1, atol=1e-12)
    assert (found[:, :3] == 0).all() and (found[:, 3:] > 0).all()


def test_the_end_of_a_document_is_no_left_neighbour():
    model = NeighbourModel(stream(), SPECIAL, V)
    right = np.array([UNKNOWN, 2, *ORDINARY])
    ended, unknown = (model.conditionals(np.column_stack([np.full(len(right), left), right])) for left in (2, UNKNOWN))
    assert np.allclose(ended, unknown, atol=1e-12)


def test_unigram_by_hand():
    model = UnigramModel(np.array([9, 9, 9, 4, 0, 1, 0, 0, 0]), SPECIAL)
    assert model.probabilities[3:] == pytest.approx(np.array([5, 1, 2, 1, 1, 1]) / 11)


def test_masked_neighbours_padding_and_edges_are_unknown():
    model = NeighbourModel(stream(), SPECIAL, V)
    x = torch.tensor([[3, 1, 4, 5, 2, 6], [7, 1, 0, 0, 0, 0]])
    real = torch.tensor([[1] * 6, [1, 1, 0, 0, 0, 0]]).bool()
    known = model.hidden_states(x, real)
    assert known[0].tolist() == [[-1, -1], [3, 4], [-1, 5], [4, 2], [5, -1], [-1, -1]]
    assert known[1, :2].tolist() == [[-1, -1], [7, -1]]
    segments = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]])
    assert model.hidden_states(x, real, segment_ids=segments)[0, 2:4].tolist() == [[-1, -1], [-1, 2]]


@pytest.mark.parametrize("kind", [NeighbourModel, UnigramModel])
def test_one_protocol(kind):
    model = (
        NeighbourModel(stream(), SPECIAL, V)
        if kind is NeighbourModel
        else UnigramModel(np.bincount(stream(), minlength=V), SPECIAL)
    )
    x = torch.tensor([[3, 1, 4, 1, 1, 2], [1, 5, 1, 6, 0, 0]])
    real = x != 0
    where = x == 1
    everywhere = model(x, real)
    assert everywhere.shape == (2, 6, V) and torch.allclose(
        everywhere.exp().sum(-1), torch.ones(2, 6, dtype=torch.float64)
    )
    assert torch.equal(model.logits_at(model.hidden_states(x, real), where), everywhere[where])


def test_through_the_bound():
    docs = documents(200, seed=1)
    windows = Windows.of_rows(docs, 32)
    unigram = UnigramModel(np.bincount(stream(), minlength=V), SPECIAL)
    # What a unigram model costs does not depend on what is hidden, so its bound is its negative log-likelihood.
    exact = sum(-math.log(unigram.probabilities[x]) for doc in docs for x in doc if x != 2)
    found = nelbo(unigram, windows, SPECIAL, samples=64)
    assert abs(found.total_nats - exact) < 4 * found.nats_per_token.monte_carlo_error * found.tokens.sum()
    pattern = [[3, 4, 5] * 4 + [2]] * 50
    repeating = NeighbourModel(np.concatenate(pattern), SPECIAL, V)
    flat = UnigramModel(np.bincount(np.concatenate(pattern), minlength=V), SPECIAL)
    one, two = (nelbo(model, Windows.of_rows(pattern, 16), SPECIAL) for model in (repeating, flat))
    assert one.nats_per_token.high < two.nats_per_token.low


def test_tables_look_up_runs():
    table = ContextTable.of(np.array([5, 0, 5, 5, 7]), np.array([1, 3, 1, 0, 2]), V)
    row, token, count = table.rows(np.array([7, 5, 6, 0, 5]))
    assert (
        row.tolist() == [0, 1, 1, 3, 4, 4]
        and token.tolist() == [2, 0, 1, 3, 0, 1]
        and count.tolist() == [1, 1, 2, 1, 1, 2]
    )


@pytest.mark.parametrize("tokens", [[], [2], [3], [3, 2]])
def test_the_smallest_streams(tokens):
    found = NeighbourModel(np.array(tokens, dtype=np.int64), SPECIAL, V).conditionals(CONTEXTS)
    assert np.allclose(found.sum(-1), 1)


def test_bad_inputs_are_explained():
    with pytest.raises(ValueError, match="EOS"):
        NeighbourModel(stream(), SpecialIds(mask=1, vocab_size=V), V)
    with pytest.raises(ValueError, match="too large"):
        NeighbourModel(stream(), SPECIAL, 2**21)
    with pytest.raises(ValueError, match="ids of the vocabulary are special"):
        UnigramModel(np.ones(3, dtype=np.int64), SPECIAL)
