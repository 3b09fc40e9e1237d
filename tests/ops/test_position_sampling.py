"""Weighted counts: exactly k, with exactly the stated probabilities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from unmask.ops.position_sampling import WeightedCount, inclusion, successive, systematic
from unmask.ops.selection import select_top
from unmask.randomness import Noise, Stream, _mix_signed, mix, row_keys

rows_of_weights = st.lists(st.floats(-30, 0), min_size=1, max_size=12)


@given(rows_of_weights, st.data())
@settings(max_examples=100, deadline=None)
def test_inclusion_probabilities_sum_to_k_and_rise_with_weight(log_w, data):
    log_w = torch.tensor([log_w], dtype=torch.float64)
    log_w = log_w - log_w.amax()
    k = data.draw(st.integers(0, log_w.shape[1]))
    (p,) = inclusion(log_w, torch.tensor([k]))
    assert abs(float(p.sum()) - k) < 1e-6
    assert (p >= 0).all() and (p <= 1).all()
    assert (p[log_w[0].argsort()].diff() >= -1e-12).all()


@given(rows_of_weights, st.integers(0, 2**40), st.data())
@settings(max_examples=150, deadline=None)
def test_both_draws_take_exactly_k_of_the_eligible(log_w, key, data):
    eligible = torch.tensor([data.draw(st.lists(st.booleans(), min_size=len(log_w), max_size=len(log_w)))])
    log_w = torch.tensor([log_w], dtype=torch.float64).masked_fill(~eligible, -torch.inf)
    k = torch.tensor([data.draw(st.integers(0, int(eligible.sum())))])
    p = inclusion(log_w, k)
    for draw in (systematic, successive):
        chosen = draw(log_w, p, eligible, k, Noise(torch.tensor([key])))
        assert torch.equal(chosen.sum(-1), k) and not (chosen & ~eligible).any()


def test_equal_weights_have_the_exact_probability():
    p = inclusion(torch.zeros(6, 6, dtype=torch.float64), torch.arange(1, 7))
    assert torch.allclose(p, (torch.arange(1, 7, dtype=torch.float64) / 6)[:, None].expand(6, 6))


def test_systematic_sampling_keeps_any_probabilities_exactly():
    p = torch.tensor([0.05, 0.9, 0.3, 1.0, 0.0, 0.75], dtype=torch.float64)
    n, k = 50_000, 3
    eligible = (p > 0).expand(n, 6)
    chosen = systematic(p.log().expand(n, 6), p.expand(n, 6), eligible, torch.full((n,), k), Noise(torch.arange(n)))
    assert (chosen.sum(-1) == k).all()
    assert ((chosen.double().mean(0) - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt()).all()
    together = (chosen[:, 0] & chosen[:, 2]).double().mean()  # a random order leaves no pair impossible
    assert together > 0


def test_prompt_and_padding_do_not_change_the_weights_of_an_answer():
    choice = WeightedCount()
    mask_rate = torch.full((1,), 0.3, dtype=torch.float64)
    bare = choice(mask_rate, torch.ones(1, 10, dtype=torch.bool), Noise(torch.tensor([5])))
    eligible = torch.zeros(1, 17, dtype=torch.bool)
    eligible[:, 4:14] = True
    framed = choice(mask_rate, eligible, Noise(torch.tensor([5]), torch.arange(17)[None] - 4))
    assert torch.equal(bare[0], framed[0][:, 4:14]) and torch.allclose(bare[1], framed[1][:, 4:14])


def test_words_at_some_places_are_the_words_of_those_positions():
    for counters in (None, torch.randint(-4, 9, (5, 9))):
        noise = Noise(torch.arange(5) - 2, counters)
        where = np.array([0, 8, 9, 32, 44])
        assert np.array_equal(noise.words_at(Stream.KIND, where, 9), noise._bits(Stream.KIND, 9).numpy().take(where))


def test_bernoulli_masking_is_exact_at_rates_zero_and_one():
    noise, among = Noise(torch.arange(3)), torch.ones(3, 40_000, dtype=torch.bool)
    among[:, 7] = False
    bernoulli, p = noise.bernoulli(torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64), among, Stream.SELECTION)
    assert (
        not bernoulli[0].any()
        and torch.equal(bernoulli[2], among[2])
        and abs(float(bernoulli[1].double().mean()) - 0.25) < 0.01
    )
    assert p.tolist() == [0.0, 0.25, 1.0] and not bernoulli[:, 7].any()


@pytest.mark.parametrize("counters", [None, torch.arange(9).expand(3, 9)])
def test_bernoulli_masking_has_exactly_its_stated_probability(counters, monkeypatch):
    """The rate rounded up to a multiple of 2^-32, as a count of the halves at which they come up; also near 0 and 1."""
    rates = torch.tensor([1e-12, 0.3, 1 - 1e-12], dtype=torch.float64)
    limits = [1, int(np.ceil(0.3 * 2**32)), 2**32]
    halves = np.array(
        [[0, 1, limit - 1, limit, 2**32 - 1, *[0] * 4] for limit in limits[:2]] + [[2**32 - 1] * 9], dtype=np.uint32
    )
    monkeypatch.setattr(Noise, "halves", lambda *_: halves)
    everywhere = torch.ones(3, 9, dtype=torch.bool)
    for _ in ("here", "on an accelerator"):
        bernoulli, p = Noise(torch.arange(3), counters).bernoulli(rates, everywhere, Stream.SELECTION)
        assert bernoulli.tolist() == [(halves[row].astype(np.int64) < limits[row]).tolist() for row in range(3)]
        assert p.tolist() == [float(np.float32(limit * 2.0**-32)) for limit in limits]
        monkeypatch.setattr(Noise, "halves", lambda *_: torch.from_numpy(halves.astype(np.int64)))


@pytest.mark.parametrize("length", [1, 6, 7])
def test_two_positions_use_the_halves_of_one_word(length):
    """Position 2i has the lower half of word i and position 2i + 1 the upper, wherever the row begins, here and on an accelerator."""
    noise = Noise(row_keys(0, 0, torch.arange(4)))
    words = noise._bits(Stream.SELECTION, 4).numpy().view(np.uint64)
    expected = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=-1).reshape(4, 8)[:, :length]
    assert np.array_equal(noise.halves(Stream.SELECTION, length), expected)
    shifted = Noise(noise.keys, (torch.arange(length + 3) - 3).expand(4, -1))
    assert np.array_equal(shifted.halves(Stream.SELECTION, length + 3)[:, 3:], expected)


def test_halves_are_uniform_and_neighbours_are_independent():
    halves = Noise(row_keys(0, 0, torch.arange(300))).halves(Stream.SELECTION, 401).astype(np.float64) / 2**32
    assert kstest(halves.ravel(), "uniform").pvalue > 1e-3
    for one, other in ((halves[:, :-1:2], halves[:, 1::2]), (halves[:, :-1], halves[:, 1:]), (halves[:-1], halves[1:])):
        cells = np.bincount(((one * 12).astype(int) * 12 + (other * 12).astype(int)).ravel(), minlength=144)
        assert chisquare(cells).pvalue > 1e-3


@given(st.integers(0, 2**40), st.integers(1, 20), st.data())
@settings(max_examples=80, deadline=None)
def test_the_largest_are_those_with_the_largest_halves(key, length, data):
    noise = Noise(torch.arange(3) + key)
    among = torch.tensor(
        data.draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=3, max_size=3))
    )
    k = torch.tensor(data.draw(st.lists(st.integers(0, length), min_size=3, max_size=3)))
    halves = torch.from_numpy(noise.halves(Stream.SELECTION, length).astype(np.float64))
    assert torch.equal(noise.largest(k, among, Stream.SELECTION), select_top(halves, among, k))


@pytest.mark.parametrize("seed", range(20))
def test_ties_of_halves_are_broken_and_exactly_k_are_selected(seed, monkeypatch):
    draw = torch.Generator().manual_seed(seed)
    halves, words = torch.randint(0, 3, (6, 9), generator=draw), torch.rand(6, 9, generator=draw).argsort(-1)
    monkeypatch.setattr(Noise, "halves", lambda *_: halves.numpy().astype(np.uint32))
    monkeypatch.setattr(Noise, "_bits", lambda *_: words << 33)
    among, k = torch.rand(6, 9, generator=draw) < 0.8, torch.randint(0, 10, (6,), generator=draw)
    chosen = Noise(torch.arange(6)).largest(k, among, Stream.SELECTION)
    assert torch.equal(chosen, select_top(halves * 10.0 + words, among, k))


def test_the_hash_is_splitmix64_with_unsigned_shifts():
    """Python's integers as the reference, negative values included."""
    values = [0, 1, -1, 2**63 - 1, -(2**63), 123456789]

    def reference(x):
        x %= 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        x ^= x >> 31
        return x - 2**64 if x >= 2**63 else x

    assert mix(torch.tensor(values)).tolist() == [reference(v) for v in values]
    assert _mix_signed(torch.tensor(values)).tolist() == [reference(v) for v in values]  # what accelerators run
    assert mix(torch.tensor(5)).shape == () and mix(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0)


def test_inclusion_probabilities_are_those_of_bisection_whatever_the_batch():
    g = torch.Generator().manual_seed(0)
    for spread in (0.0, 3.0, 60.0):
        log_w = -spread * torch.rand(60, 16, generator=g, dtype=torch.float64)
        log_w -= log_w.amax(-1, keepdim=True)
        k = torch.randint(0, 17, (60,), generator=g)
        low, high = torch.full((60,), -50.0, dtype=torch.float64), torch.full((60,), 90.0, dtype=torch.float64)
        for _ in range(100):
            middle = (low + high) / 2
            below = (1 - torch.exp(-torch.exp(log_w + middle[:, None]))).sum(-1) < k
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        expected = 1 - torch.exp(-torch.exp(log_w + low[:, None]))
        p = inclusion(log_w, k)
        inner = (k > 0) & (k < 16)
        assert torch.allclose(p[inner], expected[inner], atol=1e-10)
        assert torch.equal(p[~inner], (k[~inner] > 0).double()[:, None].expand(-1, 16))
        for row in range(0, 60, 7):
            assert torch.equal(inclusion(log_w[row : row + 1], k[row : row + 1])[0], p[row])
