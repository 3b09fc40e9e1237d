"""Arrays: NumPy views of CPU tensors.

Collation makes many small array calls, and NumPy's overhead per call is about a quarter of torch's. Collators and
corruptions therefore work on an *array*: a NumPy array on a CPU, and the tensor itself on an accelerator. Both support
slices, masks, arithmetic and ``take`` at flat indices; this module has the other functions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.devices import wide_dtype

Array = Any  # a NumPy array, or a tensor on an accelerator


def on_host(x: Tensor) -> bool:
    """Return whether a tensor is in CPU memory, so that NumPy can view it."""
    return x.device.type == "cpu"


def as_array(x: Tensor) -> Array:
    """Return a NumPy view of a CPU tensor; other tensors unchanged."""
    return x.numpy() if on_host(x) else x


def as_tensor(x: Array) -> Tensor:
    """Return the tensor of an array, which shares its memory."""
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def copy(x: Array) -> Array:
    """Return a contiguous copy."""
    return np.array(x, order="C") if isinstance(x, np.ndarray) else x.clone(memory_format=torch.contiguous_format)


def flat_nonzero(mask: Array) -> Array:
    """Return the flat indices at which a mask is True, ascending."""
    index = mask.reshape(-1).nonzero()
    return index[0] if isinstance(mask, np.ndarray) else index[:, 0]


def running_maximum(x: Array) -> Array:
    """Return the largest number of each row up to each column."""
    return np.maximum.accumulate(x, axis=-1) if isinstance(x, np.ndarray) else x.cummax(-1).values


def to_int64(x: Array) -> Array:
    """Truncate numbers to int64."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()


def to_float32(x: Array) -> Array:
    """Convert numbers to float32."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else x.float()


def rounded_up(x: Array) -> Array:
    """Round numbers up, to int64."""
    return np.ceil(x).astype(np.int64) if isinstance(x, np.ndarray) else x.ceil().long()


def rounded(x: Array) -> Array:
    """Round numbers to the nearest integer, halves to even, to int64."""
    return np.rint(x).astype(np.int64) if isinstance(x, np.ndarray) else x.round().long()


def maximum(x: Array, low: int) -> Array:
    """Return the elementwise maximum of numbers and ``low``."""
    return np.maximum(x, low) if isinstance(x, np.ndarray) else x.clamp(min=low)


def minimum(x: Array, high: Array) -> Array:
    """Return the elementwise minimum of numbers and ``high``."""
    return np.minimum(x, high) if isinstance(x, np.ndarray) else x.minimum(high)


def filled(x: Array, mask: Array, value: int) -> Array:
    """Return a copy of int64 numbers with ``value`` where ``mask`` is True.

    The NumPy form is arithmetic: choosing by a random mask takes a branch for each number, of which a third are
    mispredicted, and three times as long.
    """
    if not isinstance(x, np.ndarray):
        return x.masked_fill(mask, value)
    out = value - x
    out *= mask.astype(np.int64)
    out += x
    return out


def extent(mask: Array) -> tuple[Array, Array]:
    """Return the first and the last column at which each row is True, int64; rows without one have any."""
    if isinstance(mask, np.ndarray):
        return mask.argmax(axis=-1), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=-1)
    index = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, index, mask.shape[1]).amin(-1), torch.where(mask, index, -1).amax(-1)


def all_true(mask: Array) -> bool:
    """Return whether a mask on a CPU is True everywhere; False on an accelerator, which is not waited for."""
    return isinstance(mask, np.ndarray) and np.count_nonzero(mask) == mask.size


@lru_cache(maxsize=16)
def row_starts(rows: int, length: int) -> NDArray[np.int64]:
    """Return the start of each row in a flattened batch; read-only by convention."""
    starts: NDArray[np.int64] = np.arange(rows) * length
    return starts


def columns(rows: int, length: int, start: int, device: torch.device, single: bool) -> Array:
    """Return ``start, start + 1, ..`` in each row, float32 (``single``) or the widest float; read-only by convention."""
    return as_array(_columns(rows, length, start, device, torch.float32 if single else wide_dtype(device)))


@lru_cache(maxsize=16)
def _columns(rows: int, length: int, start: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.arange(start, start + length, device=device, dtype=dtype).repeat(rows, 1)


def spread(x: Array, length: int) -> Array:
    """Return a number for each row ``[B]`` as ``[B, length]``."""
    return np.repeat(x, length).reshape(-1, length) if isinstance(x, np.ndarray) else x[:, None].expand(-1, length)


def count_rows(mask: Array) -> Array:
    """Return the number of True values in each row, int64."""
    if isinstance(mask, np.ndarray):
        return np.add.reduce(mask.view(np.uint8), axis=-1, dtype=np.uint32).astype(np.int64)
    return mask.sum(-1)


def k_largest(halves: NDArray[np.uint32], k: NDArray[np.int64], among: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Compute ``Noise.largest`` by a 32-bit sort, ten times faster than one of 64 bits; None if ties change
    ``k``.
    """
    rows, length = halves.shape
    if not halves.size:
        return None
    halves = halves * among
    smallest: NDArray[np.uint32] = np.sort(halves, axis=-1).take(row_starts(rows, length) + (length - k), mode="clip")
    chosen: NDArray[np.bool_] = halves >= smallest[:, None]
    chosen &= among
    if np.count_nonzero(k) < rows:
        chosen &= (k > 0)[:, None]
    return chosen if np.count_nonzero(chosen) == np.add.reduce(k) else None
