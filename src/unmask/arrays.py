"""Arrays: on a CPU, a tensor's memory as NumPy sees it.

A batch of tokens is made by a hundred functions of a few kilobytes each, and a call of NumPy's costs a quarter of one of torch's.
What collators and corruptions do between the large steps is therefore written for either: an *array* is NumPy's on a CPU and the
tensor itself elsewhere. Both understand slices, masks, arithmetic and ``take`` of flattened places; the rest is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any  # a NumPy array, or a tensor on an accelerator


def on_host(x: Tensor) -> bool:
    """Whether a tensor's memory is this machine's, so that NumPy can see it."""
    return x.device.type == "cpu"


def as_array(x: Tensor) -> Array:
    """The same memory: NumPy's on a CPU, otherwise the tensor."""
    return x.numpy() if on_host(x) else x


def as_tensor(x: Array) -> Tensor:
    """The tensor of an array, of the same memory."""
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def copy(x: Array) -> Array:
    """A contiguous copy."""
    return np.array(x, order="C") if isinstance(x, np.ndarray) else x.clone(memory_format=torch.contiguous_format)


def flat_nonzero(mask: Array) -> Array:
    """Where a mask is True, as places in the flattened mask, ascending."""
    found = mask.reshape(-1).nonzero()
    return found[0] if isinstance(mask, np.ndarray) else found[:, 0]


def to_int64(x: Array) -> Array:
    """Numbers cut to whole ones, int64."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()


def to_float32(x: Array) -> Array:
    """Numbers as float32."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else x.float()


def rounded_up(x: Array) -> Array:
    """The ceilings of numbers, int64."""
    return np.ceil(x).astype(np.int64) if isinstance(x, np.ndarray) else x.ceil().long()


def maximum(x: Array, low: int) -> Array:
    """Numbers, raised to ``low`` where they are below it."""
    return np.maximum(x, low) if isinstance(x, np.ndarray) else x.clamp(min=low)


def minimum(x: Array, high: Array) -> Array:
    """Numbers, lowered to those of ``high`` where they are above them."""
    return np.minimum(x, high) if isinstance(x, np.ndarray) else x.minimum(high)


def count_rows(mask: Array) -> Array:
    """How many are True in each row, int64."""
    if isinstance(mask, np.ndarray):
        return np.add.reduce(mask.view(np.uint8), axis=-1, dtype=np.uint32).astype(np.int64)
    return mask.sum(-1)
