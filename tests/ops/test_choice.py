"""Weighted counts: exactly k, with exactly the stated probabilities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.ops.choice import WeightedCount, inclusion, successive, systematic
from unmask.ops.selection import select_top
from unmask.randomness import Noise, Stream, _mix_signed, mix

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


def test_a_prompt_and_padding_leave_the_weights_of_an_answer_alone():
    choice = WeightedCount()
    level = torch.full((1,), 0.3, dtype=torch.float64)
    bare = choice(level, torch.ones(1, 10, dtype=torch.bool), Noise(torch.tensor([5])))
    eligible = torch.zeros(1, 17, dtype=torch.bool)
    eligible[:, 4:14] = True
    framed = choice(level, eligible, Noise(torch.tensor([5]), torch.arange(17)[None] - 4))
    assert torch.equal(bare[0], framed[0][:, 4:14]) and torch.allclose(bare[1], framed[1][:, 4:14])


def test_noise_at_some_positions_is_the_noise_of_those_positions():
    for counters in (None, torch.randint(-4, 9, (5, 9))):
        noise = Noise(torch.arange(5) - 2, counters)
        row, column = torch.tensor([0, 0, 1, 3, 4]), torch.tensor([0, 8, 0, 5, 8])
        assert torch.equal(noise.at(Stream.KIND, row, column), noise.per_token(Stream.KIND, 9)[row, column])


def test_coins_come_up_always_at_one_and_never_at_zero():
    noise = Noise(torch.arange(3))
    rate = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    coins = noise.coins(rate, Stream.SELECTION, 40_000)
    assert not coins[0].any() and coins[2].all() and abs(float(coins[1].double().mean()) - 0.25) < 0.01


@given(st.integers(0, 2**40), st.integers(1, 20), st.data())
@settings(max_examples=80, deadline=None)
def test_the_largest_by_bits_are_the_largest_uniforms(key, length, data):
    noise = Noise(torch.arange(3) + key)
    among = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=3, max_size=3)))
    k = torch.minimum(torch.tensor(data.draw(st.lists(st.integers(0, length), min_size=3, max_size=3))), among.sum(-1))
    chosen = noise.largest(k, among, Stream.SELECTION)
    assert torch.equal(chosen, select_top(noise.per_token(Stream.SELECTION, length), among, k))


@pytest.mark.parametrize("seed", range(20))
def test_equal_upper_halves_are_decided_by_the_lower(seed, monkeypatch):
    """The sort sees 32 of the 64 bits; where they tie, all 64 decide."""
    draw = torch.Generator().manual_seed(seed)
    upper, lower = torch.randint(0, 3, (6, 9), generator=draw), torch.rand(6, 9, generator=draw).argsort(-1)
    bits = ((upper - 1) << 32) + lower  # -1 is the largest of unsigned halves
    monkeypatch.setattr(Noise, "_bits", lambda *_: bits.clone())
    among, k = torch.rand(6, 9, generator=draw) < 0.8, torch.randint(0, 10, (6,), generator=draw)
    order = torch.where(upper == 0, 3, upper) * 10.0 + lower
    chosen = Noise(torch.arange(6)).largest(k, among, Stream.SELECTION)
    assert torch.equal(chosen, select_top(order, among, k))


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
