"""A keyed order of any number of things that is computed, not stored.

Place ``i`` of an epoch holds window ``permute(i, n, key)``: a run of 10^9 windows needs no list of them, and a resumed one starts
anywhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.randomness import fold, mix

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer


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
