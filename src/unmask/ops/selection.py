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

from unmask.arrays import count_rows, on_host
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
    if np.count_nonzero(among) == among.size:
        k = np.clip(budget.numpy(), 0, length)
    else:
        keys[~among] = -np.inf
        k = np.clip(budget.numpy(), 0, count_rows(among))
    places = np.arange(1, rows + 1) * length - np.maximum(k, 1)
    least: NDArray[np.float32] = np.sort(keys, axis=-1).take(places)
    chosen: NDArray[np.bool_] = keys >= least[:, None]
    if len(empty := np.flatnonzero(k == 0)):
        chosen[empty] = False
    chosen &= among
    return torch.from_numpy(chosen) if np.count_nonzero(chosen) == np.add.reduce(k) else None


def gumbel(uniforms: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return standard Gumbel noise from uniforms in (0, 1), in float64, so that the tail is not truncated."""
    return -torch.log(-torch.log(wide(uniforms)))


def gumbel_topk_scores(
    log_w: Float[Tensor, "rows items"], noise: Noise, stream: Stream = Stream.SELECTION
) -> Float[Tensor, "rows items"]:
    """Return perturbed log-weights, whose top k are a weighted sample without replacement (Kool et al. 2019)."""
    uniforms = noise.per_token(stream, log_w.shape[-1])
    if not on_host(uniforms):
        return wide(log_w) + gumbel(uniforms)
    scores = uniforms.numpy()  # in place, in NumPy, whose logarithms are three times as fast
    np.log(scores, out=scores)
    np.negative(scores, out=scores)
    np.log(scores, out=scores)
    return torch.from_numpy(np.subtract(log_w.numpy(), scores, out=scores))


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
    return select_top(gumbel_topk_scores(log_w, noise), possible, k)


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
