"""Keyed noise: uniform, independent, the same everywhere and for ever."""

import numpy as np
import pytest
import torch
from scipy import stats

from unmask.randomness import Noise, Stream, fold, low_discrepancy, mix, row_keys, uniform

GOLDEN_MIX = [0, 6238072747940578789, -5417735806833148549]
GOLDEN_KEYS = [-1364565206112834312, 6752573004810752849]
GOLDEN_LARGE = [-9136786641311510081]
GOLDEN_TOKENS = [0.4617172614505184, 0.2662790591386187, 0.7338523579294692]
GOLDEN_PLACES = [0.5123475078242464, 0.13038149657414133, 0.7484154853240362]


def many(seed=0, epoch=0, rows=400, length=500, stream=Stream.SELECTION):
    return Noise(row_keys(seed, epoch, torch.arange(rows))).per_token(stream, length)


def chi_square(u, bins=64):
    counts = np.bincount((np.asarray(u).ravel() * bins).astype(int), minlength=bins)
    return stats.chisquare(counts).pvalue


def test_uniform_over_positions_rows_and_epochs():
    by_epoch = torch.stack([uniform(row_keys(0, epoch, torch.arange(50))) for epoch in range(400)])
    for u in (many(), many(rows=200_000, length=1), many(rows=1, length=200_000), by_epoch):
        assert chi_square(u) > 1e-3
        assert stats.kstest(np.asarray(u).ravel(), "uniform").pvalue > 1e-3
        assert u.dtype == torch.float64 and u.min() > 0 and u.max() < 1


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_neighbouring_positions_and_rows_are_independent(shift):
    u = many().numpy()
    pairs = np.stack([u[1:-1, 1:-1].ravel(), np.roll(u, shift, (0, 1))[1:-1, 1:-1].ravel()])
    cells = np.bincount((pairs[0] * 12).astype(int) * 12 + (pairs[1] * 12).astype(int), minlength=144)
    assert stats.chisquare(cells).pvalue > 1e-3


@pytest.mark.parametrize("other", [s for s in Stream if s is not Stream.SELECTION])
def test_streams_epochs_and_seeds_are_independent(other):
    u = many().numpy()
    for v in (many(stream=other), many(epoch=1), many(seed=1), many(seed=2**63 + 5), many(seed=-1)):
        cells = np.bincount((u * 12).astype(int).ravel() * 12 + (v.numpy() * 12).astype(int).ravel(), minlength=144)
        assert stats.chisquare(cells).pvalue > 1e-4


def test_values_never_change():
    """Bit-exact on every machine: a checkpoint resumed elsewhere, or next year, meets the same noise."""
    assert mix(torch.tensor([0, 1, -1])).tolist() == GOLDEN_MIX
    assert row_keys(0, 0, torch.tensor([0, 1])).tolist() == GOLDEN_KEYS
    assert row_keys(2**40 + 7, 3, torch.tensor([12345678901])).tolist() == GOLDEN_LARGE
    assert Noise(row_keys(0, 0, torch.tensor([5]))).per_token(Stream.SELECTION, 3)[0].tolist() == GOLDEN_TOKENS
    assert low_discrepancy(0, 0, torch.arange(3)).tolist() == GOLDEN_PLACES


def test_mix_is_splitmix64():
    """The finaliser in Python's unbounded integers (Steele, Lea and Flood 2014)."""

    def reference(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    for x in (0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15, 123456789):
        signed = (x + 2**63) % 2**64 - 2**63
        assert int(mix(torch.tensor(signed))) % 2**64 == reference(x)


def test_keys_do_not_collide():
    keys = torch.cat([row_keys(seed, epoch, torch.arange(2000)) for seed in range(4) for epoch in range(4)])
    assert len(keys.unique()) == len(keys)
    assert fold(keys[:1], 3) != fold(keys[:1], 4)


def test_noise_of_a_row_is_its_own():
    ids = torch.tensor([7, 3, 99])
    together = Noise(row_keys(5, 2, ids))
    for i, id in enumerate(ids):
        alone = Noise(row_keys(5, 2, id[None]))
        assert torch.equal(alone.per_token(Stream.KIND, 6)[0], together.per_token(Stream.KIND, 10)[i, :6])
        assert torch.equal(alone.per_row(Stream.MASK_RATE)[0], together.per_row(Stream.MASK_RATE)[i])
    epochs = torch.tensor([2, 4, 2])
    mixed = row_keys(5, epochs, ids)
    assert all(torch.equal(mixed[i], row_keys(5, int(epochs[i]), ids)[i]) for i in range(3))


def test_counters_move_the_noise_with_the_tokens():
    keys = row_keys(0, 0, torch.tensor([1]))
    plain = Noise(keys).per_token(Stream.TOKEN, 4)
    shifted = Noise(keys, counters=torch.arange(7)[None] - 3).per_token(Stream.TOKEN, 7)
    assert torch.equal(shifted[:, 3:], plain)


def test_given_levels_take_the_place_of_drawn_ones_only():
    keys, row_uniforms = row_keys(0, 0, torch.arange(3)), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    noise = Noise(keys, row_uniforms=row_uniforms)
    assert torch.equal(noise.per_row(Stream.MASK_RATE), row_uniforms)
    assert torch.equal(noise.per_row(Stream.ORDER), Noise(keys).per_row(Stream.ORDER))


@pytest.mark.parametrize("start", [0, 17, 10**12])
@pytest.mark.parametrize("n", [2, 10, 100, 1000])
def test_any_run_of_places_covers_the_interval(start, n):
    u = low_discrepancy(3, 1, torch.arange(start, start + n)).sort().values
    gaps = torch.cat([u, u[:1] + 1]).diff()
    assert gaps.max() < 2.0 / n and gaps.min() > 0.3 / n


def test_each_place_alone_is_uniform_over_seeds():
    u = torch.stack([low_discrepancy(seed, 0, torch.tensor([5, 6])) for seed in range(4000)])
    assert chi_square(u[:, 0]) > 1e-3 and chi_square(u[:, 1]) > 1e-3
    assert low_discrepancy(0, 0, torch.tensor([5])) != low_discrepancy(0, 1, torch.tensor([5]))
    per_row = low_discrepancy(0, torch.tensor([0, 1]), torch.tensor([5, 5]))
    assert per_row.tolist() == [float(low_discrepancy(0, epoch, torch.tensor([5]))) for epoch in (0, 1)]


def test_a_generator_gives_keys_to_rows_without_identity():
    one, two = (Noise.from_generator(4, torch.Generator().manual_seed(1)).keys for _ in range(2))
    assert torch.equal(one, two) and len(one.unique()) == 4
    assert not torch.equal(Noise.from_generator(4).keys, Noise.from_generator(4).keys)
