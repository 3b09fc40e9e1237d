"""Selection of positions, shared by masking and unmasking.

Masking selects the positions of masks by Gumbel scores; unmasking selects masked positions by confidence. Both select
the best-scoring candidates within a budget per row.

Shapes: scores ``[B, L]``, candidates ``[B, L]`` bool, budgets ``[B]``.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.arrays import all_true, as_tensor, count_rows, on_host, row_starts
from unmask.devices import wide
from unmask.randomness import Noise, Stream


def select_top(
    scores: Float[Tensor, "batch seq"],
    candidates: Bool[Tensor, "batch seq"],
    budget: Int[Tensor, " batch"],
) -> Bool[Tensor, "batch seq"]:
    """Select the ``budget[b]`` best-scoring candidates of row ``b``.

    A row with fewer candidates than its budget yields all of them. Ties go to the leftmost position, so equal scores
    give the same result on every machine.

    Args:
        scores: ``[B, L]``, higher is better, finite at every candidate.
        candidates: bool ``[B, L]``, positions that may be selected.
        budget: int64 ``[B]``, how many to select; zero is allowed.

    Returns:
        Bool ``[B, L]`` with ``min(budget[b], candidates[b].sum())`` true entries in row ``b``.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[0.9, 0.1, 0.5, 0.7]])
        >>> candidates = torch.tensor([[False, True, True, True]])
        >>> select_top(scores, candidates, torch.tensor([2]))
        tensor([[False, False,  True,  True]])
    """
    if on_host(scores) and (chosen := _above_threshold(scores, candidates, budget)) is not None:
        return chosen
    # Stable, so that equal scores stay in order.
    by_score = torch.argsort(scores, dim=-1, descending=True, stable=True)
    rank_free = candidates.gather(-1, by_score)
    place = rank_free.long().cumsum(-1)  # 1-based place among the candidates
    taken = rank_free & (place <= budget[:, None])
    return torch.zeros_like(candidates).scatter(-1, by_score, taken)


def _above_threshold(scores: Tensor, candidates: Tensor, budget: Tensor) -> Tensor | None:
    """Compute :func:`select_top` by each row's threshold, from a 32-bit sort of the scores; None if there are ties.

    Rounding to float32 keeps the order, so a row has too many scores at its threshold or the right ones.
    """
    among, rows, length = candidates.numpy(), *candidates.shape
    if not among.size:
        return None
    keys = (scores if scores.dtype in (torch.float32, torch.float64) else scores.float()).detach().numpy()
    keys = keys.astype(np.float32)
    k = np.maximum(budget.numpy(), 0)
    if every := all_true(among):
        k = np.minimum(k, length)
    else:
        keys[~among] = -np.inf
        k = np.minimum(k, count_rows(among))
    in_order = np.sort(keys, axis=-1)
    chosen: NDArray[np.bool_] = keys >= in_order.take(row_starts(rows, length) + (length - k), mode="clip")[:, None]
    if not every:
        chosen &= among
    if np.count_nonzero(k) < rows:
        chosen &= (k > 0)[:, None]
    return torch.from_numpy(chosen) if np.count_nonzero(chosen) == np.add.reduce(k) else None


def gumbel(uniforms: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return standard Gumbel noise from uniforms in (0, 1), in float64, so that the tail is not truncated."""
    return -torch.log(-torch.log(wide(uniforms)))


def sample_weighted(
    log_w: Float[Tensor, "rows items"], k: Int[Tensor, " rows"], candidates: Bool[Tensor, "rows items"], noise: Noise
) -> Bool[Tensor, "rows items"]:
    """Draw a weighted sample of ``k[n]`` of the candidates of each row, without replacement, by keyed noise.

    ``k[n]`` lies between 0 and the number of candidates. The sample has the largest ``log_w + gumbel`` (Kool et al. 2019), in other words the smallest ``E / w``, with ``E``
    exponential. On a CPU, these quotients are computed in float32. Rows in which rounding could change the sample are
    drawn in float64, as on other devices.
    """
    halves = noise.halves(Stream.SELECTION, log_w.shape[-1])
    if isinstance(halves, Tensor) or not halves.size:
        return select_top(_perturbed(log_w, as_tensor(halves)), candidates, k)
    chosen, unsure = _smallest_quotients(log_w.numpy(), k.numpy(), candidates.numpy(), halves)
    if len(unsure):
        rows = torch.from_numpy(unsure)
        scores = _perturbed(log_w[rows], torch.from_numpy(halves[unsure].astype(np.int64)))
        chosen[unsure] = select_top(scores, candidates[rows], k[rows]).numpy()
    return torch.from_numpy(chosen)


def _perturbed(log_w: Tensor, halves: Int[Tensor, "rows items"]) -> Tensor:
    """Return log-weights with Gumbel noise from 32 random bits each."""
    return wide(log_w) + gumbel((wide(halves) + 0.5) * 2.0**-32)


def _smallest_quotients(
    log_w: NDArray[np.floating], k: NDArray[np.int64], among: NDArray[np.bool_], halves: NDArray[np.uint32]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the ``k`` smallest ``E / w`` of each row, and the rows in which rounding could change them."""
    rows, length = among.shape
    every = all_true(among)
    inverse = np.negative(log_w, dtype=np.float32, casting="same_kind")
    if not every:
        inverse[~among] = 0.0
    if inverse.max() > _WIDEST or inverse.min() < -_WIDEST:
        return among.copy(), np.arange(rows)
    np.exp(inverse, out=inverse)
    quotients = halves.astype(np.float32)
    quotients *= np.float32(2.0**-32)
    quotients += np.float32(2.0**-33)
    np.log(quotients, out=quotients)  # -E
    quotients *= inverse
    if not every:
        quotients[~among] = -np.inf
    bits = quotients.view(np.uint32)  # negative floats as integers: ascending in E / w, and sorted in half the time
    in_order = np.sort(bits, axis=-1)
    ends = row_starts(rows, length) + k
    last = in_order.take(ends - 1, mode="clip")
    left_out = in_order.take(ends, mode="clip").view(np.float32)
    # Rounding moves E by up to 2^-23, and E / w by up to 2^-19 of itself besides.
    unsure = (left_out >= last.view(np.float32) * _SURELY - 2.0**-21 * inverse.max()).nonzero()[0]
    last[k == 0] = 0
    chosen: NDArray[np.bool_] = bits <= last[:, None]
    if not every:
        chosen &= among
    return chosen, unsure[(k[unsure] > 0) & (k[unsure] < length)]  # the samples of none and of all are certain


_SURELY = np.float32(1 + 2.0**-17)
_WIDEST = 16.0  # largest log-weight whose exponential float32 has to within 2^-19 of itself


def _batched_gumbel_topk(
    log_w: Float[Tensor, "rows items"],
    k: Int[Tensor, " rows"],
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "rows items"]:
    """Draw a weighted sample of exactly ``k[n]`` items of each row, without replacement (Kool et al. 2019).

    Args:
        log_w: float ``[N, D]``, log-weights; items with ``-inf`` are never selected.
        k: int64 ``[N]``, how many items to select.
        generator: source of the noise; None = torch's global generator.

    Returns:
        Bool ``[N, D]`` with ``k[n]`` true entries in row ``n``.

    Raises:
        ValueError: a row has fewer than ``k[n]`` items of positive weight, or ``k[n]`` is negative.

    Examples:
        >>> import torch
        >>> _batched_gumbel_topk(torch.zeros(2, 5), torch.tensor([1, 3])).sum(-1)
        tensor([1, 3])
    """
    possible = log_w > -torch.inf
    if bool((k < 0).any()) or bool((k > possible.sum(-1)).any()):
        raise ValueError(
            f"gumbel_topk selects k items of positive weight: k is {k.tolist()[:8]}, and the rows have "
            f"{possible.sum(-1).tolist()[:8]} items with log_w > -inf. Lower k (at least 0), or give more items a finite "
            "log-weight."
        )
    noise = Noise.from_generator(log_w.shape[0], generator, log_w.device)
    return sample_weighted(wide(log_w), k, possible, noise)


def gumbel_topk(
    log_w: Float[Tensor, " items"], k: int, generator: torch.Generator | None = None
) -> Bool[Tensor, " items"]:
    """Draw a weighted sample of exactly ``k`` items without replacement (Kool et al. 2019).

    Args:
        log_w: float ``[D]``, log-weights; items with ``-inf`` are never selected.
        k: how many items to select.
        generator: source of the noise; None = torch's global generator.

    Returns:
        Bool ``[D]`` with ``k`` true entries.

    Raises:
        ValueError: fewer than ``k`` items have a positive weight, or ``k`` is negative.

    Examples:
        >>> import torch
        >>> gumbel_topk(torch.tensor([0.0, -torch.inf, 0.0]), k=2)
        tensor([ True, False,  True])
    """
    return _batched_gumbel_topk(log_w[None], torch.tensor([k], device=log_w.device), generator)[0]
