"""Keyed permutations of any length, computed without storing them.

Index ``i`` of an epoch is window ``permute(i, n, key)``: a corpus of 10^9 windows needs no list of them, and training
resumes at any index.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.randomness import GOLDEN, fold, mix


def permute(index: Int[Tensor, "*shape"], size: int, key: Int[Tensor, ""]) -> Int[Tensor, "*shape"]:
    """Return the images of ``index`` under a keyed permutation of ``0..size-1``.

    A Feistel network of six rounds over the smallest even number of bits that holds ``size``, repeated until the value
    lies below ``size`` (cycle walking, Black and Rogaway 2002): constant memory for corpora of any length.
    """
    half = max(1, (max(2, size) - 1).bit_length() + 1 >> 1)
    low = (1 << half) - 1
    rounds = [fold(key, number) for number in range(6)]

    def feistel(x: Tensor) -> Tensor:
        left, right = x >> half, x & low
        for round_key in rounds:
            left, right = right, left ^ (mix(right * GOLDEN + round_key) & low)
        return left << half | right

    out = feistel(index)
    for _ in range(1 << 2 * half):  # a bijection returns below `size` before its cycle ends
        if not bool((outside := out >= size).any()):
            return out
        out = torch.where(outside, feistel(out), out)
    raise AssertionError("the Feistel network is not a bijection")
