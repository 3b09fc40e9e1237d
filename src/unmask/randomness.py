"""Keyed noise: every random number is a pure function of who asks for it.

A 64-bit key names a row (from ``seed, epoch, example id`` in training, ``seed, row id, step`` in decoding), a
counter names a position, a stream names the question. One integer hash turns the three into a uniform, so the
noise of a row does not depend on its batch, its padding, its worker, its rank, or on a resume.

The hash is the SplitMix64 finaliser (Steele, Lea and Flood 2014), vectorised over int64 tensors. Uniforms are
float64 with 52 random bits, strictly inside (0, 1), so their logarithms are finite and tails are not truncated. Coins
and exact counts take 32 bits a position, two positions to a word, and state the probability that coins really have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask import arrays
from unmask.arrays import Array
from unmask.devices import has_float64, wide

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_LARGEST = 2**63 - 1
# As arrays without axes, which NumPy's functions take faster than its scalars: a batch meets them a hundred times.
_SHIFTS = tuple(np.array(bits, dtype=np.uint64) for bits in (30, 27, 31))
_STEP = np.array(_GOLDEN)
_TWELVE = np.array(12, dtype=np.uint64)
_FACTORS = tuple(np.array(factor % 2**64, dtype=np.uint64) for factor in (_MIX_1, _MIX_2))


class Stream(IntEnum):
    """The question a random number answers; different streams of one key are independent."""

    MASK_RATE = 1
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


_STREAMS = torch.arange(len(Stream) + 1)[:, None]
_STREAM_STEPS = _STREAMS.numpy() * _STEP


def _wrap(value: int) -> int:
    """A Python integer modulo 2^64, as the signed integer with those bits."""
    return (value + 2**63) % 2**64 - 2**63


def mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble int64 values; a bijection in which every input bit reaches every output bit."""
    if arrays.on_host(x):
        return torch.from_numpy(_scramble(np.array(x.numpy(), ndmin=1)).reshape(x.shape))
    return _mix_signed(x)


def _mixed(start: int | Tensor, data: Tensor) -> Tensor:
    """``mix(start + data * golden)``, of which every key is made; the two broadcast."""
    here = arrays.on_host(data) and data.ndim > 0 and (isinstance(start, int) or arrays.on_host(start))
    if here:
        return torch.from_numpy(_scramble(data.numpy() * _STEP + (start if isinstance(start, int) else start.numpy())))
    return mix(start + data * _GOLDEN)


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
    start = mix(key + _GOLDEN)
    return mix(start + _wrap(data * _GOLDEN)) if isinstance(data, int) else _mixed(start, data)


def row_keys(seed: int, epoch: int | Tensor, ids: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """One key per row from ``(seed, epoch, id)``; in decoding ``epoch`` is the step. An epoch per row is allowed."""
    if isinstance(epoch, int):
        return _mixed(_epoch_key(seed, epoch), ids)
    return fold(_mixed(_seed_key(seed), epoch), ids)


@lru_cache(maxsize=256)
def _epoch_key(seed: int, epoch: int) -> int:
    """The part of ``fold(fold(seed, epoch), ids)`` that is the same for all ids."""
    return int(mix(fold(torch.tensor(_wrap(seed)), epoch) + _GOLDEN))


@lru_cache(maxsize=256)
def _seed_key(seed: int) -> int:
    """The part of ``fold(seed, epoch)`` that is the same for all epochs."""
    return int(mix(torch.tensor(_wrap(seed)) + _GOLDEN))


def low_discrepancy(seed: int, epoch: int | Tensor, places: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Uniforms ``frac(offset(seed, epoch) + place * golden ratio)`` that fill (0, 1) evenly.

    ``place`` is an example's place in the order of its epoch. Each value alone is uniform over seeds, and any run of
    consecutive places, however it is cut into batches, ranks and accumulation steps, covers (0, 1) with gaps of
    order ``1/n``. The multiplication is exact: places times the golden ratio modulo one, in 64-bit integers.
    """
    offset = row_keys(seed, int(Stream.MASK_RATE), torch.as_tensor(epoch, device=places.device).reshape(-1))
    return _unit(offset + places * _GOLDEN)


def uniform(keys: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Float64 uniforms strictly inside (0, 1), one per key."""
    return _unit(mix(keys))


def _unit(bits: Tensor) -> Tensor:
    """The upper 52 bits as a float64 in the middle of its cell of (0, 1)."""
    if arrays.on_host(bits):
        return torch.from_numpy(_unit_words(bits.numpy()))
    if not has_float64(bits.device):  # made on the host, and rounded to the nearest float32 inside (0, 1)
        return _unit(bits.cpu()).float().clamp(max=1 - 2.0**-24).to(bits.device)
    return _shift(bits, 12).double().add_(0.5).mul_(2.0**-52)


def _unit_words(bits: NDArray[np.int64]) -> NDArray[np.float64]:
    unit = (bits.view(np.uint64) >> _TWELVE).astype(np.float64)
    unit += 0.5
    unit *= 2.0**-52
    return unit


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
    row_uniforms: Float[Tensor, " batch"] | None = None

    @classmethod
    def from_generator(
        cls, rows: int, generator: torch.Generator | None = None, device: str | torch.device = "cpu"
    ) -> Noise:
        """Keys drawn from a generator (torch's global one if None), for rows that have no identity."""
        source = generator.device if generator is not None else device
        keys = torch.randint(-_LARGEST, _LARGEST, (rows,), generator=generator, device=source)
        return cls(keys.to(device))

    @cached_property
    def _stream_keys(self) -> Int[Tensor, "streams batch"]:
        """``fold(keys, stream)`` for all streams at once."""
        return fold(self.keys, _STREAMS.to(self.keys.device))

    @cached_property
    def _stream_words(self) -> NDArray[np.int64]:
        """The same on a CPU."""
        return _scramble(_scramble(self.keys.numpy() + _STEP) + _STREAM_STEPS)

    def per_row(self, stream: Stream) -> Float[Tensor, " batch"]:
        """One uniform per row, ``[B]``."""
        if stream is Stream.MASK_RATE and self.row_uniforms is not None:
            return self.row_uniforms
        if arrays.on_host(self.keys):
            return torch.from_numpy(_unit_words(self._stream_words[stream]))
        return _unit(self._stream_keys[stream])

    def per_token(self, stream: Stream, length: int) -> Float[Tensor, "batch seq"]:
        """One uniform per position, ``[B, L]``."""
        return _unit(self._bits(stream, length))

    def words_at(self, stream: Stream, where: Array, length: int) -> Array:
        """64 random bits, as signed numbers, at some places of the flattened batch only: an array (``unmask.arrays``)."""
        if arrays.on_host(self.keys):
            row = where // max(1, length)
            counters = where - row * length if self.counters is None else self.counters.numpy().take(where)
            return _scramble(self._stream_words[stream].take(row) + counters * _STEP)
        return mix(self._seeds(stream, length).take(where))

    def bernoulli(
        self, rate: Float[Tensor, " batch"], among: Bool[Tensor, "batch seq"], stream: Stream
    ) -> tuple[Bool[Tensor, "batch seq"], Float[Tensor, " batch"]]:
        """One coin for each position of ``among``, ``[B, L]``, and the probability with which the coins of each row come up, ``[B]``.

        That is its rate rounded up to a multiple of 2^-32: at rate 1 always, at 0 never, and at no other rate never.
        """
        halves = self._halves(stream, among.shape[1])  # compared as integers, which spares the way through float64
        if isinstance(halves, Tensor):
            limit = (wide(rate) * 2.0**32).ceil()
            return among & (halves < limit.long()[:, None]), (limit * 2.0**-32).float()
        below = np.ceil(rate.double().numpy() * 2.0**32)
        chosen = halves < np.minimum(below, 2.0**32 - 1).astype(np.uint32)[:, None]
        if np.count_nonzero(always := below == 2.0**32):  # the limit of rate 1 is no 32-bit number
            chosen |= always[:, None]
        chosen &= among.numpy()
        return torch.from_numpy(chosen), torch.from_numpy((below * 2.0**-32).astype(np.float32))

    def largest(
        self, k: Int[Tensor, " batch"], among: Bool[Tensor, "batch seq"], stream: Stream
    ) -> Bool[Tensor, "batch seq"]:
        """``k[b]`` positions of ``among``, evenly; at most as many as there are: those with the largest halves of words."""
        length = among.shape[1]
        halves = self._halves(stream, length)
        if not isinstance(halves, Tensor):
            if (chosen := _largest(halves, k.numpy(), among.numpy())) is not None:
                return torch.from_numpy(chosen)
            halves = torch.from_numpy(halves.astype(np.int64))
        # Halves that tie are told apart by words of their own; the order is stable, so that exactly k are chosen in any case.
        score = torch.where(among, halves << 31 | _shift(self._bits(stream, length), 33), -1)
        order = score.argsort(dim=-1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(length, device=order.device).expand_as(order))
        return among & (rank < k[:, None])

    def _bits(self, stream: Stream, length: int) -> Int[Tensor, "batch seq"]:
        """64 random bits per position."""
        seeds = self._seeds(stream, length)
        return mix(seeds) if isinstance(seeds, Tensor) else torch.from_numpy(_scramble(seeds))

    def _halves(self, stream: Stream, length: int) -> Array:
        """32 random bits per position, two positions to a word of 64: uint32 ``[B, L]`` in NumPy on a CPU, int64 elsewhere."""
        if self.counters is None and arrays.on_host(self.keys):
            return _scramble(self._seeds(stream, (length + 1) // 2)).view(np.uint32)[:, :length]
        counters = torch.arange(length, device=self.keys.device) if self.counters is None else self.counters
        words = replace(self, counters=(counters >> 1).expand(len(self.keys), length))._bits(stream, length)
        halves = words >> 32 * (counters & 1) & 0xFFFFFFFF
        return halves.numpy().astype(np.uint32) if arrays.on_host(halves) else halves

    def _seeds(self, stream: Stream, length: int) -> Array:
        """What the bits of each position are mixed from, int64 ``[B, L]``."""
        if arrays.on_host(self.keys):
            return self._stream_words[stream][:, None] + (
                _steps(length) if self.counters is None else self.counters.numpy() * _STEP
            )
        counters = torch.arange(length, device=self.keys.device) if self.counters is None else self.counters
        return self._stream_keys[stream][:, None] + counters * _GOLDEN


@lru_cache(maxsize=16)
def _steps(length: int) -> NDArray[np.int64]:
    """``0..length-1`` times the golden ratio; not to be written to."""
    return np.arange(length) * _STEP


def _largest(halves: NDArray[np.uint32], k: NDArray[np.int64], among: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """:meth:`Noise.largest` by a sort, ten times faster than of 64 bits; None where it would not be exactly ``k``."""
    rows, length = halves.shape
    if not halves.size:
        return None
    halves = halves * among
    smallest = np.sort(halves, axis=-1).take(_row_ends(rows, length) - k, mode="clip")
    chosen = halves >= smallest[:, None]
    chosen &= among
    if np.count_nonzero(k) < rows:
        chosen &= (k > 0)[:, None]
    return chosen if np.count_nonzero(chosen) == np.add.reduce(k) else None


@lru_cache(maxsize=16)
def _row_ends(rows: int, length: int) -> NDArray[np.int64]:
    """Where each row ends in a flattened batch; not to be written to."""
    return np.arange(1, rows + 1) * length
