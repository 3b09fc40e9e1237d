"""Choosing positions: the primitive that masking and unmasking share.

Hiding chooses where to put masks (by coin, or by Gumbel scores); revealing chooses which masks to lift (by
confidence). Both are a choice among candidates, with or without a budget.

Shapes: scores ``[B, L]``, candidates ``[B, L]`` bool, budgets ``[B]``.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.devices import wide
from unmask.randomness import Noise, Stream


def select_top(
    scores: Float[Tensor, "batch seq"],
    candidates: Bool[Tensor, "batch seq"],
    budget: Int[Tensor, " batch"],
) -> Bool[Tensor, "batch seq"]:
    """Choose the ``budget[b]`` best-scoring candidates of row ``b``.

    A row with fewer candidates than its budget yields all of them. Ties go to the leftmost position, so equal
    scores give the same answer everywhere.

    Args:
        scores: ``[B, L]``, higher is better, finite at every candidate.
        candidates: ``[B, L]``, positions that may be chosen.
        budget: ``[B]``, how many to choose; zero is allowed.

    Returns:
        ``[B, L]`` mask with ``min(budget[b], candidates[b].sum())`` true entries.
    """
    # Candidates first, then by falling score; both sorts are stable, so equal scores stay in order.
    by_score = torch.argsort(scores, dim=-1, descending=True, stable=True)
    rank_free = candidates.gather(-1, by_score)
    place = rank_free.long().cumsum(-1)  # 1-based place among the candidates
    taken = rank_free & (place <= budget[:, None])
    return torch.zeros_like(candidates).scatter(-1, by_score, taken)


def gumbel(uniforms: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Standard Gumbel noise from uniforms in (0, 1); float64, so the tail is not cut."""
    return -torch.log(-torch.log(wide(uniforms)))


def gumbel_topk_scores(
    log_w: Float[Tensor, "rows items"], noise: Noise, stream: Stream = Stream.SELECTION
) -> Float[Tensor, "rows items"]:
    """Perturbed log-weights whose top k are a weighted sample without replacement (Kool et al. 2019)."""
    return wide(log_w) + gumbel(noise.per_token(stream, log_w.shape[-1]))


def _batched_gumbel_topk(
    log_w: Float[Tensor, "rows items"],
    k: Int[Tensor, " rows"],
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "rows items"]:
    """Row by row, a weighted sample of exactly ``k[n]`` items without replacement.

    Args:
        log_w: ``[N, D]`` log-weights; ``-inf`` can never be chosen.
        k: ``[N]``, how many to choose.
        generator: where the noise comes from; torch's global generator if None.

    Returns:
        ``[N, D]`` with ``k[n]`` true entries in row ``n``.

    Raises:
        ValueError: a row has fewer than ``k[n]`` items of positive weight, or ``k[n]`` is negative.
    """
    possible = log_w > -torch.inf
    if bool((k < 0).any()) or bool((k > possible.sum(-1)).any()):
        raise ValueError(
            "gumbel_topk cannot choose more items than have positive weight: "
            f"k is {k.tolist()[:8]} and the rows have {possible.sum(-1).tolist()[:8]} items with log_w > -inf. "
            "Lower k, or give more items a finite log-weight."
        )
    noise = Noise.from_generator(log_w.shape[0], generator, log_w.device)
    return select_top(gumbel_topk_scores(log_w, noise), possible, k)


def gumbel_topk(
    log_w: Float[Tensor, " items"], k: int, generator: torch.Generator | None = None
) -> Bool[Tensor, " items"]:
    """A weighted sample of exactly ``k`` items without replacement, never one of weight zero (``-inf``).

    Noise comes from ``generator``, or from torch's global one if None.
    """
    return _batched_gumbel_topk(log_w[None], torch.tensor([k], device=log_w.device), generator)[0]
