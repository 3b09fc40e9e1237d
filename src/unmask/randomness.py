"""Keyed noise: every random number is a pure function of who asks for it.

A 64-bit key names a row (from ``seed, epoch, example id`` in training, ``seed, row id, step`` in decoding), a
counter names a position, a stream names the question. One integer hash turns the three into a uniform, so the
noise of a row does not depend on its batch, its padding, its worker, its rank, or on a resume.

The hash is the SplitMix64 finaliser (Steele, Lea and Flood 2014), vectorised over int64 tensors. Uniforms are
float64 with 52 random bits, strictly inside (0, 1), so their logarithms are finite and tails are not truncated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)
_SHIFTS = tuple(np.uint64(bits) for bits in (30, 27, 31))
_STEP = np.int64(_GOLDEN)
_TWELVE, _HALF = np.uint64(12), np.uint64(32)
_FACTORS = tuple(np.uint64(factor % 2**64) for factor in (_MIX_1, _MIX_2))


class Stream(IntEnum):
    """The question a random number answers; different streams of one key are independent."""

    LEVEL = 1
    SELECTION = 2
    KIND = 3
    TOKEN = 4
    ORDER = 5
    LENGTH = 6
    REACH = 7
    OFFSET = 8
    BLOCK = 9
    TIME = 6
    REVISION = 7


def _wrap(value: int) -> int:
    """A Python integer modulo 2^64, as the signed integer with those bits."""
    return (value + 2**63) % 2**64 - 2**63


def mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble int64 values; a bijection in which every input bit reaches every output bit."""
    if x.device.type == "cpu":
        return torch.from_numpy(_scramble(np.array(x.numpy(), ndmin=1)).reshape(x.shape))
    return _mix_signed(x)


def _mix_signed(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def _scramble(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same, in place, in NumPy, which has unsigned shifts and small overheads: 2 to 3 times faster, and most of a
    corruption's time."""
    x = values.view(np.uint64)
    x ^= x >> _SHIFTS[0]
    x *= _FACTORS[0]
    x ^= x >> _SHIFTS[1]
    x *= _FACTORS[1]
    x ^= x >> _SHIFTS[2]
    return values


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's ``>>`` copies the sign bit)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def fold(key: Tensor, data: int | Tensor) -> Tensor:
    """A new key from ``key`` and one more fact about who asks, int64. ``key`` and ``data`` broadcast."""
    return mix(mix(key + _GOLDEN) + (_wrap(data * _GOLDEN) if isinstance(data, int) else data * _GOLDEN))


def row_keys(seed: int, epoch: int | Tensor, ids: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """One key per row from ``(seed, epoch, id)``; in decoding ``epoch`` is the step. An epoch per row is allowed."""
    if isinstance(epoch, int):
        return mix(ids * _GOLDEN + _epoch_key(seed, epoch))
    return fold(fold(torch.full_like(ids, _wrap(seed)), epoch), ids)


@lru_cache(maxsize=256)
def _epoch_key(seed: int, epoch: int) -> int:
    """The part of ``fold(fold(seed, epoch), ids)`` that is the same for all ids."""
    return int(mix(fold(torch.tensor(_wrap(seed)), epoch) + _GOLDEN))


def low_discrepancy(seed: int, epoch: int | Tensor, places: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Uniforms ``frac(offset(seed, epoch) + place * golden ratio)`` that fill (0, 1) evenly.

    ``place`` is an example's place in the order of its epoch. Each value alone is uniform over seeds, and any run of
    consecutive places, however it is cut into batches, ranks and accumulation steps, covers (0, 1) with gaps of
    order ``1/n``. The multiplication is exact: places times the golden ratio modulo one, in 64-bit integers.
    """
    offset = row_keys(seed, int(Stream.LEVEL), torch.as_tensor(epoch, device=places.device).reshape(-1))
    return _unit(offset + places * _GOLDEN)


def uniform(keys: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Float64 uniforms strictly inside (0, 1), one per key."""
    return _unit(mix(keys))


def _unit(bits: Tensor) -> Tensor:
    """The upper 52 bits as a float64 in the middle of its cell of (0, 1)."""
    if bits.device.type == "cpu":
        unit = (bits.numpy().view(np.uint64) >> _TWELVE).astype(np.float64)
        unit += 0.5
        unit *= 2.0**-52
        return torch.from_numpy(unit)
    return _shift(bits, 12).double().add_(0.5).mul_(2.0**-52)


def permute(index: Int[Tensor, "*shape"], size: int, key: Int[Tensor, ""]) -> Int[Tensor, "*shape"]:
    """Where ``index`` goes in a keyed permutation of ``0..size-1``, without making the permutation.

    A Feistel network of six rounds over the smallest even number of bits that holds ``size``, walked until it lands
    below ``size`` (Black and Rogaway 2002, cycle walking): constant memory for corpora of any length.
    """
    half = max(1, (max(2, size) - 1).bit_length() + 1 >> 1)
    low = (1 << half) - 1
    rounds = [fold(key, number) for number in range(6)]

    def feistel(x: Tensor) -> Tensor:
        left, right = x >> half, x & low
        for round_key in rounds:
            left, right = right, left ^ (mix(right * _GOLDEN + round_key) & low)
        return left << half | right

    out = feistel(index)
    for _ in range(1 << 2 * half):  # a bijection leads back below `size` before its cycle ends
        if not bool((outside := out >= size).any()):
            return out
        out = torch.where(outside, feistel(out), out)
    raise AssertionError("the Feistel network is no bijection")


@dataclass(frozen=True)
class Noise:
    """The noise of a batch of rows.

    Attributes:
        keys: int64 ``[B]``, one per row.
        counters: int64 ``[B, L]``, the number of each position within its row, or None for ``0..L-1``. Rows
            that are padded on the left count from their first real token, so padding does not move the noise.
        levels: float64 ``[B]`` in (0, 1), or None. When given, they take the place of the rows' own level
            uniforms (stratified times).
    """

    keys: Int[Tensor, " batch"]
    counters: Int[Tensor, "batch seq"] | None = None
    levels: Float[Tensor, " batch"] | None = None

    @classmethod
    def from_generator(cls, rows: int, generator: torch.Generator | None = None, device: str | torch.device = "cpu") -> Noise:
        """Keys drawn from a generator (torch's global one if None), for rows that have no identity."""
        source = generator.device if generator is not None else device
        keys = torch.randint(-_LARGEST, _LARGEST, (rows,), generator=generator, device=source)
        return cls(keys.to(device))

    @cached_property
    def _stream_keys(self) -> Int[Tensor, "streams batch"]:
        """``fold(keys, stream)`` for all streams at once."""
        streams = torch.arange(len(Stream) + 1, device=self.keys.device)[:, None]
        if self.keys.device.type == "cpu":
            keys: NDArray[np.int64] = self.keys.numpy()
            steps: NDArray[np.int64] = streams.numpy() * _STEP
            return torch.from_numpy(_scramble(_scramble(keys + _STEP) + steps))
        return fold(self.keys, streams)

    def per_row(self, stream: Stream) -> Float[Tensor, " batch"]:
        """One uniform per row, ``[B]``."""
        if stream is Stream.LEVEL and self.levels is not None:
            return self.levels
        return uniform(self._stream_keys[stream])

    def per_token(self, stream: Stream, length: int) -> Float[Tensor, "batch seq"]:
        """One uniform per position, ``[B, L]``."""
        return _unit(self._bits(stream, length))

    def at(self, stream: Stream, row: Int[Tensor, " some"], column: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        """The values of ``per_token`` at some positions only."""
        counters = column if self.counters is None else self.counters[row, column]
        return uniform(self._stream_keys[stream].index_select(0, row) + counters * _GOLDEN)

    def coins(self, rate: Float[Tensor, " batch"], stream: Stream, length: int) -> Bool[Tensor, "batch seq"]:
        """One coin per position, ``[B, L]``, that comes up with its row's probability: at rate 1 always, at 0 never."""
        # Bits are compared as integers, which spares the way through float64: u < rate where the bits are below a limit.
        bits = self._bits(stream, length)
        if bits.device.type == "cpu":
            half = (rate.double().numpy() * 2.0**63 - 2.0**62).astype(np.int64)
            chosen = bits.numpy() < (2 * half)[:, None]
            if (always := half == 2**62).any():  # the limit of rate 1 is no 64-bit number
                chosen |= always[:, None]
            return torch.from_numpy(chosen)
        return (bits >> 1) < (rate.double() * 2.0**63 - 2.0**62).long()[:, None]

    def largest(self, k: Int[Tensor, " batch"], among: Bool[Tensor, "batch seq"], stream: Stream) -> Bool[Tensor, "batch seq"]:
        """The ``k[b]`` positions of ``among`` with the largest ``per_token`` numbers; at most as many as there are.

        Positions with counters of their own never tie: their 64 bits are a bijection of the counter.
        """
        length = among.shape[1]
        if length == 0:
            return among
        bits = self._bits(stream, length)
        if bits.device.type == "cpu" and (chosen := _largest_by_half(bits.numpy(), k.numpy(), among.numpy())) is not None:
            return torch.from_numpy(chosen)
        bits = torch.where(among, bits ^ _SMALLEST, _SMALLEST)  # signed numbers in the order of the uniforms
        place = (length - k).clamp(max=length - 1)[:, None]
        return among & (bits >= bits.sort(-1).values.gather(-1, place)) & (k > 0)[:, None]

    def _bits(self, stream: Stream, length: int) -> Int[Tensor, "batch seq"]:
        """64 random bits per position."""
        key = self._stream_keys[stream][:, None]
        if key.device.type == "cpu":
            steps = _steps(length) if self.counters is None else self.counters.numpy() * _STEP
            return torch.from_numpy(_scramble(key.numpy() + steps))
        counters = torch.arange(length, device=key.device) if self.counters is None else self.counters
        return mix(key + counters * _GOLDEN)


@lru_cache(maxsize=16)
def _steps(length: int) -> NDArray[np.int64]:
    """``0..length-1`` times the golden ratio; not to be written to."""
    return np.arange(length) * _STEP


def _largest_by_half(bits: NDArray[np.int64], k: NDArray[np.int64], among: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """:meth:`Noise.largest` by the upper 32 of the bits, whose sort is ten times faster; None where they tie."""
    rows, length = bits.shape
    upper = (bits.view(np.uint64) >> _HALF).astype(np.uint32)
    upper *= among
    smallest = np.sort(upper, axis=-1)[np.arange(rows), np.minimum(length - k, length - 1)]
    chosen = upper >= smallest[:, None]
    chosen &= among
    if not k.all():
        chosen &= (k > 0)[:, None]
    wanted = np.minimum(k, np.count_nonzero(among, axis=-1)).sum()
    return chosen if np.count_nonzero(chosen) == wanted else None
