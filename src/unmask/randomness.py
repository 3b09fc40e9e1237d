"""Keyed (counter-based) random numbers: each value is a deterministic function of its key.

A 64-bit key identifies a row (from ``seed, epoch, example id`` in training, ``seed, row id, step`` in decoding), a
counter its position, and a stream the use of the number. One integer hash maps the three to a uniform. The noise of a
row therefore does not depend on its batch, padding, worker or rank, nor on resuming.

The hash is the SplitMix64 finaliser (Steele, Lea and Flood 2014), vectorised over int64 tensors. Uniforms are float64
with 52 random bits, strictly inside (0, 1), so their logarithms are finite and tails are not truncated. Bernoulli draws,
fixed counts and weighted samples use 32 bits a position, and Bernoulli draws return the exact probability of these bits.
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

from unmask import arrays
from unmask.arrays import Array
from unmask.devices import has_float64, wide

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, 2^64 times the golden ratio, as a signed 64-bit integer
GOLDEN_RATIO = (5**0.5 - 1) / 2
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_LARGEST = 2**63 - 1
# Arrays without axes: NumPy's functions read them faster than scalars, about a hundred times a batch.
_SHIFTS = tuple(np.array(bits, dtype=np.uint64) for bits in (30, 27, 31))
_STEP = np.array(GOLDEN)
_TWELVE = np.array(12, dtype=np.uint64)
_FACTORS = tuple(np.array(factor % 2**64, dtype=np.uint64) for factor in (_MIX_1, _MIX_2))


class Stream(IntEnum):
    """The use of a random number; different streams of one key are independent."""

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
_USUAL_STREAM_STEPS = _STREAM_STEPS[: Stream.SELECTION + 1]
_FEW_KEYS = 64  # up to this number, all streams in one call cost as much as one stream


def _wrap(value: int) -> int:
    """Return a Python integer modulo 2^64, as the signed integer with the same bits."""
    return (value + 2**63) % 2**64 - 2**63


def mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Hash int64 values; a bijection in which every input bit affects every output bit."""
    if arrays.on_host(x):
        return torch.from_numpy(_scramble(np.array(x.numpy(), ndmin=1)).reshape(x.shape))
    return _mix_signed(x)


def _mixed(start: int | Tensor, data: Tensor) -> Tensor:
    """Return ``mix(start + data * golden)``, from which every key is made; the two broadcast."""
    here = arrays.on_host(data) and data.ndim > 0 and (isinstance(start, int) or arrays.on_host(start))
    if here:
        return torch.from_numpy(_scramble(data.numpy() * _STEP + (start if isinstance(start, int) else start.numpy())))
    return mix(start + data * GOLDEN)


def _mix_signed(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def _scramble(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute :func:`mix` in place in NumPy, which has unsigned shifts and small overheads: 2 to 3 times faster than
    torch.

    Most of a corruption's time is spent here.
    """
    x = values.view(np.uint64)
    x ^= x >> _SHIFTS[0]
    x *= _FACTORS[0]
    x ^= x >> _SHIFTS[1]
    x *= _FACTORS[1]
    x ^= x >> _SHIFTS[2]
    return values


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift int64 right logically (torch's ``>>`` copies the sign bit)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def fold(key: Tensor, data: int | Tensor) -> Tensor:
    """Derive a new int64 key from ``key`` and ``data``, which broadcast."""
    start = mix(key + GOLDEN)
    return mix(start + _wrap(data * GOLDEN)) if isinstance(data, int) else _mixed(start, data)


def row_keys(seed: int, epoch: int | Tensor, ids: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Return one key per row from ``(seed, epoch, id)``; in decoding ``epoch`` is the step. It may differ by row."""
    if isinstance(epoch, int):
        return _mixed(_epoch_key(seed, epoch), ids)
    return fold(_mixed(_seed_key(seed), epoch), ids)


@lru_cache(maxsize=256)
def _epoch_key(seed: int, epoch: int) -> int:
    """Return the part of ``fold(fold(seed, epoch), ids)`` that does not depend on the ids."""
    return int(mix(fold(torch.tensor(_wrap(seed)), epoch) + GOLDEN))


@lru_cache(maxsize=256)
def _seed_key(seed: int) -> int:
    """Return the part of ``fold(seed, epoch)`` that does not depend on the epoch."""
    return int(mix(torch.tensor(_wrap(seed)) + GOLDEN))


def low_discrepancy(seed: int, epoch: int | Tensor, places: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return uniforms ``frac(offset(seed, epoch) + place * golden ratio)``, which cover (0, 1) evenly.

    ``place`` is an example's index in the order of its epoch. Each value alone is uniform over seeds. Any run of
    consecutive places covers (0, 1) with gaps of order ``1/n``, however it is divided into batches, ranks and
    accumulation steps. The multiplication is exact, in 64-bit integers.
    """
    offset = row_keys(seed, int(Stream.MASK_RATE), torch.as_tensor(epoch, device=places.device).reshape(-1))
    return _unit(offset + places * GOLDEN)


def uniform(keys: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return float64 uniforms strictly inside (0, 1), one per key."""
    return _unit(mix(keys))


def _unit(bits: Tensor) -> Tensor:
    """Return the upper 52 bits as a float64 in the middle of its cell of (0, 1)."""
    if arrays.on_host(bits):
        return torch.from_numpy(_unit_words(bits.numpy()))
    if not has_float64(bits.device):  # compute on the host, and round to the nearest float32 inside (0, 1)
        return _unit(bits.cpu()).float().clamp(max=1 - 2.0**-24).to(bits.device)
    return _shift(bits, 12).double().add_(0.5).mul_(2.0**-52)


def _unit_words(bits: NDArray[np.int64]) -> NDArray[np.float64]:
    unit = (bits.view(np.uint64) >> _TWELVE).astype(np.float64)
    unit += 0.5
    unit *= 2.0**-52
    return unit


@dataclass(frozen=True)
class Noise:
    """The keyed noise of a batch of rows.

    Attributes:
        keys: int64 ``[B]``, one per row.
        counters: int64 ``[B, L]``, the number of each position within its row; None = ``0..L-1``. Left-padded rows
            count from their first real token, so that padding does not change the noise.
        row_uniforms: float64 ``[B]`` in (0, 1): replace the rows' own uniforms for the mask rate (time sampling); or
            None.
        places: int64 ``[B, L]``, the number of each position within its document, in packed rows; None = ``counters``.
        blocks: ``(count, size)``: rows are the blocks of longer rows, ``count`` of ``size`` positions each, and positions
            have their numbers there; None = rows are rows. Without ``counters`` only.

    Examples:
        >>> import torch
        >>> from unmask.randomness import Stream
        >>> one, both = Noise(torch.tensor([7])), Noise(torch.tensor([3, 7]))
        >>> torch.equal(one.per_token(Stream.ORDER, 4)[0], both.per_token(Stream.ORDER, 4)[1])
        True
    """

    keys: Int[Tensor, " batch"]
    counters: Int[Tensor, "batch seq"] | None = None
    row_uniforms: Float[Tensor, " batch"] | None = None
    places: Int[Tensor, "batch seq"] | None = None
    blocks: tuple[int, int] | None = None

    @classmethod
    def from_generator(
        cls, rows: int, generator: torch.Generator | None = None, device: str | torch.device = "cpu"
    ) -> Noise:
        """Draw keys from a generator (None = torch's global one), for rows without an example id."""
        source = generator.device if generator is not None else device
        keys = torch.randint(-_LARGEST, _LARGEST, (rows,), generator=generator, device=source)
        return cls(keys.to(device))

    def of_blocks(self, count: int, size: int) -> Noise:
        """Return the noise of ``count`` blocks of ``size`` positions in each row, as rows of their own."""
        if arrays.on_host(self.keys):
            words = _scramble(self._words(Stream.BLOCK) + _STEP)
            keys = torch.from_numpy(_scramble(words[:, None] + _steps(count)).reshape(-1))
        else:
            number = torch.arange(count, device=self.keys.device)
            keys = fold(self._stream_keys[Stream.BLOCK][:, None], number).flatten()
        return Noise(keys, blocks=(count, size))

    @cached_property
    def _stream_keys(self) -> Int[Tensor, "streams batch"]:
        """Return ``fold(keys, stream)`` for all streams at once."""
        return fold(self.keys, _STREAMS.to(self.keys.device))

    def _words(self, stream: Stream) -> NDArray[np.int64]:
        """Return ``fold(keys, stream)`` in NumPy, for keys on a CPU."""
        if stream < len(self._stream_words):
            return self._stream_words[stream]
        return _scramble(self._key_words + _STREAM_STEPS[stream])

    @cached_property
    def _key_words(self) -> NDArray[np.int64]:
        return _scramble(self.keys.numpy() + _STEP)

    @cached_property
    def _stream_words(self) -> NDArray[np.int64]:
        """Return the words of all streams, or of the usual ones for many keys."""
        return _scramble(self._key_words + (_STREAM_STEPS if len(self.keys) <= _FEW_KEYS else _USUAL_STREAM_STEPS))

    def per_row(self, stream: Stream) -> Float[Tensor, " batch"]:
        """Return one uniform per row, ``[B]``."""
        if stream is Stream.MASK_RATE and self.row_uniforms is not None:
            return self.row_uniforms
        if arrays.on_host(self.keys):
            return torch.from_numpy(_unit_words(self._words(stream)))
        return _unit(self._stream_keys[stream])

    def per_token(self, stream: Stream, length: int) -> Float[Tensor, "batch seq"]:
        """Return one uniform per position, ``[B, L]``."""
        return _unit(self._bits(stream, length))

    def per_token_at(self, stream: Stream, where: Array, length: int) -> Float[Tensor, " places"]:
        """Return the uniforms of :meth:`per_token` at flat indices ``where`` of the batch."""
        return _unit(arrays.as_tensor(self.words_at(stream, where, length)))

    def words_at(self, stream: Stream, where: Array, length: int) -> Array:
        """Return 64 random bits, as signed integers, at flat indices ``where`` of the batch (an array of
        ``unmask.arrays``).
        """
        if arrays.on_host(self.keys):
            row = where // max(1, length)
            counters = where - row * length if self.counters is None else self.counters.numpy().take(where)
            if self.counters is None and self.blocks is not None:
                counters += row % self.blocks[0] * self.blocks[1]
            return _scramble(self._words(stream).take(row) + counters * _STEP)
        return mix(self._seeds(stream, length).take(where))

    def bernoulli(
        self, rate: Float[Tensor, " batch"], among: Bool[Tensor, "batch seq"], stream: Stream
    ) -> tuple[Bool[Tensor, "batch seq"], Float[Tensor, " batch"]]:
        """Draw each position of ``among`` ``[B, L]`` independently; also return each row's exact probability ``[B]``.

        That probability is ``rate`` rounded up to a multiple of 2^-32: exact at rates 0 and 1, and never 0 for another
        rate.
        """
        halves = self.halves(stream, among.shape[1])  # compared as integers, without a conversion to float64
        if isinstance(halves, Tensor):
            limit = (wide(rate) * 2.0**32).ceil()
            return among & (halves < limit.long()[:, None]), (limit * 2.0**-32).float()
        below = np.ceil(rate.double().numpy() * 2.0**32)
        chosen = halves < np.minimum(below, 2.0**32 - 1).astype(np.uint32)[:, None]
        if np.count_nonzero(always := below == 2.0**32):  # the limit of rate 1 does not fit into 32 bits
            chosen |= always[:, None]
        chosen &= among.numpy()
        return torch.from_numpy(chosen), torch.from_numpy((below * 2.0**-32).astype(np.float32))

    def largest(
        self, k: Int[Tensor, " batch"], among: Bool[Tensor, "batch seq"], stream: Stream
    ) -> Bool[Tensor, "batch seq"]:
        """Select ``k[b]`` positions of ``among``, evenly: those with the largest 32-bit halves; at most all of them."""
        length = among.shape[1]
        halves = self.halves(stream, length)
        if not isinstance(halves, Tensor):
            if (chosen := arrays.k_largest(halves, k.numpy(), among.numpy())) is not None:
                return torch.from_numpy(chosen)
            halves = torch.from_numpy(halves.astype(np.int64))
        # Break ties between halves by words of their own. The order is stable, so that exactly k positions are selected.
        score = torch.where(among, halves << 31 | _shift(self._bits(stream, length), 33), -1)
        order = score.argsort(dim=-1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(length, device=order.device).expand_as(order))
        return among & (rank < k[:, None])

    def _bits(self, stream: Stream, length: int) -> Int[Tensor, "batch seq"]:
        """Return 64 random bits per position."""
        seeds = self._seeds(stream, length)
        return mix(seeds) if isinstance(seeds, Tensor) else torch.from_numpy(_scramble(seeds))

    def halves(self, stream: Stream, length: int) -> Array:
        """Return 32 random bits per position, from half a word each: uint32 ``[B, L]`` in NumPy on a CPU, else
        int64.
        """
        count, size = self.blocks or (1, 0)
        if self.counters is None and arrays.on_host(self.keys) and size % 2 == 0:
            return _scramble(self._row_seeds(stream, count, size // 2, (length + 1) // 2)).view(np.uint32)[:, :length]
        counters = self._counters(length)
        words = Noise(self.keys, (counters >> 1).expand(len(self.keys), length))._bits(stream, length)
        halves = words >> 32 * (counters & 1) & 0xFFFFFFFF
        return halves.numpy().astype(np.uint32) if arrays.on_host(halves) else halves

    def _seeds(self, stream: Stream, length: int) -> Array:
        """Return the hash inputs of each position, int64 ``[B, L]``."""
        if not arrays.on_host(self.keys):
            return self._stream_keys[stream][:, None] + self._counters(length) * GOLDEN
        if self.counters is not None:
            return self._words(stream)[:, None] + self.counters.numpy() * _STEP
        return self._row_seeds(stream, *(self.blocks or (1, 0)), length)

    def _row_seeds(self, stream: Stream, count: int, size: int, length: int) -> NDArray[np.int64]:
        """Return the hash inputs of ``length`` consecutive numbers, in rows that are blocks, for keys on a CPU."""
        words = self._words(stream)
        if size:
            words = words + _block_steps(len(words), count, size)
        return words[:, None] + _steps(length)

    def _counters(self, length: int) -> Int[Tensor, "rows seq"]:
        """Return the number of each position, int64 ``[B, L]`` or ``[1, L]``."""
        if self.counters is not None:
            return self.counters
        index = torch.arange(length, device=self.keys.device)[None]
        if self.blocks is None:
            return index
        count, size = self.blocks
        return torch.arange(len(self.keys), device=self.keys.device)[:, None] % count * size + index


@lru_cache(maxsize=16)
def _block_steps(rows: int, count: int, size: int) -> NDArray[np.int64]:
    """Return the first position of each block times the golden ratio, row after row; read-only by convention."""
    steps: NDArray[np.int64] = np.arange(rows) % count * size * _STEP
    return steps


@lru_cache(maxsize=16)
def _steps(length: int) -> NDArray[np.int64]:
    """Return ``0..length-1`` times the golden ratio; read-only by convention."""
    steps: NDArray[np.int64] = np.arange(length) * _STEP
    return steps
