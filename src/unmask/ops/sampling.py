"""Token sampling: temperature, filters, and an exact categorical draw.

Inputs are logits or log-probabilities ``[N, V]`` of the positions to fill, results are ids ``[N]``. A draw inverts the
cumulative distribution in float64 with one 52-bit uniform per position, so that small probabilities are neither
truncated nor merged. Float32 Gumbel noise and joint categoricals do both (docs/theory.md, "Decoding").
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.devices import wide

Logits = Float[Tensor, "scored vocab"]
_ROWS = 64  # rows of the vocabulary processed at a time


def forbid(logits: Logits, forbidden: Bool[Tensor, " vocab"]) -> Logits:
    """Return logits with ``-inf`` at forbidden ids; apply this before any filter or score."""
    return logits.masked_fill(forbidden, -torch.inf)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep the ``k`` largest logits of each row (all that tie with the k-th), ``-inf`` elsewhere."""
    if k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < _kth_largest(logits, k), -torch.inf)


def likeliest(logits: Logits) -> Int[Tensor, " scored"]:
    """Return the id of the largest logit of each row: the first of ties, and a NaN if there is one.

    On a CPU NumPy's argmax is many times faster than torch's.
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        return logits.argmax(-1)
    return torch.from_numpy(logits.detach().numpy().argmax(-1))


def _kth_largest(logits: Logits, k: int) -> Float[Tensor, "scored 1"]:
    """Return the ``k``-th largest number of each row; on a CPU by NumPy's partition, several times faster than
    sorting.
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        return logits.topk(k, dim=-1).values[:, -1:]
    place = logits.shape[-1] - k
    floors = [np.partition(rows.detach().numpy(), place, axis=-1)[:, place] for rows in torch.split(logits, _ROWS)]
    return torch.from_numpy(np.concatenate(floors) if floors else np.empty(0, np.float32)).to(logits.dtype)[:, None]


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Keep the smallest set of tokens whose probability reaches ``p`` (nucleus sampling), including the last one."""
    ordered, order = wide(logits).sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    drop = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -torch.inf)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Keep the tokens at least ``p`` times as likely as the most likely one (2407.01082), which always stays."""
    floor = logits.amax(-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < floor, -torch.inf)


def draw(logits: Logits, uniforms: Float[Tensor, " scored"], temperature: float = 1.0) -> Int[Tensor, " scored"]:
    """Draw one id per row from ``softmax(logits / temperature)``; temperature 0 takes the largest logit.

    Args:
        logits: ``[N, V]``, ``-inf`` where an id may not be drawn.
        uniforms: float64 ``[N]`` in (0, 1); not read at temperature 0.
        temperature: above 0 flattens (> 1) or sharpens (< 1).

    Returns:
        int64 ``[N]``. An id of probability zero is never returned.
    """
    if temperature == 0:
        return likeliest(logits)
    if logits.device.type != "cpu":
        return _draw(logits, uniforms, temperature)
    # A few rows at a time: allocating [N, V] in float64 costs a CPU more than the sums.
    parts = zip(torch.split(logits, _ROWS), torch.split(uniforms, _ROWS), strict=True)
    drawn = [_draw(rows, own, temperature) for rows, own in parts]
    return torch.cat(drawn) if drawn else logits.new_zeros(0, dtype=torch.int64)


def _draw(logits: Logits, uniforms: Float[Tensor, " scored"], temperature: float) -> Int[Tensor, " scored"]:
    scaled = wide(logits)
    scaled = scaled / temperature if temperature != 1 else scaled
    weights = (scaled - scaled.amax(-1, keepdim=True)).exp_()
    cumulative = weights.cumsum(-1)
    target = wide(uniforms)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # Rounding can make the target equal to the total; then return the last id of positive probability.
    if bool((drawn == logits.shape[-1]).any()):
        last = logits.shape[-1] - 1 - weights.flip(-1).gt(0).long().argmax(-1)
        drawn = torch.minimum(drawn, last)
    return drawn
