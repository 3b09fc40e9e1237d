"""The any-order bound by enumeration: every subset of a short row is masked once.

    NELBO(x) = sum over nonempty S of  c(S) / (|S| * C(n, |S|)),   c(S) = sum over i in S of -log p(x_i | x outside S)

(docs/theory.md, "The likelihood bound"). This is the reference for tests of the estimators, and the exact bound of rows
of up to 16 tokens. The likelihood itself, of generation one token at a time in a random order, follows from the same conditionals:

    L({}) = 1,   L(S) = 1 / |S| * sum over i in S of p(x_i | x outside S) L(S without i)

so that -log L(all) <= NELBO (Jensen), with equality for consistent conditionals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.suitability import check_masked
from unmask.nn.modes import eval_mode
from unmask.nn.projection import logits_where
from unmask.ops.weighting import token_nll

LONGEST = 16


def any_order_conditionals(
    model: MLMModel,
    ids: Sequence[int] | NDArray[np.integer],
    special: SpecialIds,
    batch_rows: int = 1024,
    scored: NDArray[np.bool_] | None = None,
) -> tuple[Bool[Tensor, "subsets seq"], Float[Tensor, "subsets seq"]]:
    """Return ``-log p(x_i | x outside S)`` for every nonempty set ``S`` of ordinary tokens and every ``i`` in it.

    Args:
        model: any ``MLMModel``.
        ids: of one row.
        special: ids that are never masked.
        batch_rows: rows of a forward pass.
        scored: bool ``[L]``, the tokens of the sets; None = the ordinary ones.

    Returns:
        The sets, bool ``[2^n - 1, L]``, and nats, float64 ``[2^n - 1, L]``, zero outside each set.

    Raises:
        ValueError: more than 16 maskable tokens, or none.
    """
    special = SpecialIds.of(special)
    row, at = torch.as_tensor(list(ids), dtype=torch.long), device_of(model)
    check_masked(model)
    ordinary = ~torch.isin(row, torch.tensor(special.all, device=row.device))
    free = (ordinary if scored is None else torch.from_numpy(scored)).nonzero()[:, 0]
    n = len(free)
    if not 0 < n <= LONGEST:
        raise ValueError(
            f"Enumeration visits all 2^n sets of the n maskable tokens, and this row has n = {n}: give a row of 1 to {LONGEST}, "
            "or estimate the bound with unmask.nelbo."
        )
    subsets = torch.zeros(2**n - 1, len(row), dtype=torch.bool, device=row.device)
    subsets[:, free] = (
        torch.arange(1, 2**n, device=row.device)[:, None] >> torch.arange(n, device=row.device)
    ) & 1 == 1
    nats = torch.zeros(subsets.shape, dtype=torch.float64, device=row.device)
    with eval_mode(model):
        for where, out in zip(torch.split(subsets, batch_rows), torch.split(nats, batch_rows), strict=True):
            batch = {"input_ids": row.expand(where.shape).masked_fill(where, special.mask).to(at)}
            out[where] = (
                token_nll(logits_where(model, batch, where.to(at)), row.expand(where.shape)[where].to(at))
                .cpu()
                .double()
            )
    return subsets, nats


def exact_nelbo(
    model: MLMModel,
    ids: Sequence[int] | NDArray[np.integer],
    special: SpecialIds,
    scored: NDArray[np.bool_] | None = None,
) -> float:
    """Return the bound of one row, or of its tokens ``scored`` given the others, in nats, without sampling."""
    subsets, nats = any_order_conditionals(model, ids, special, scored=scored)
    size = subsets.sum(-1)
    n = int(size.max())
    weight = torch.tensor(
        [0.0] + [1 / (k * math.comb(n, k)) for k in range(1, n + 1)], dtype=torch.float64, device=nats.device
    )
    return float((nats.sum(-1) * weight[size]).sum())


def exact_log_likelihood(
    model: MLMModel,
    ids: Sequence[int] | NDArray[np.integer],
    special: SpecialIds,
    scored: NDArray[np.bool_] | None = None,
) -> float:
    """Return the log-likelihood of a short row under generation in a random order, in nats, without sampling.

    Args:
        model: any ``MLMModel``.
        ids: of one row.
        special: ids that are never masked.
        scored: bool ``[L]``, the tokens that are generated, given the others; None = the ordinary ones.

    Raises:
        ValueError: more than 16 tokens to generate, or none.
    """
    subsets, nats = any_order_conditionals(model, ids, special, scored=scored)
    columns = subsets.any(0).nonzero()[:, 0].tolist()
    n = len(columns)
    log_p = np.zeros(2**n)
    conditional = -nats[:, columns].numpy()  # row s - 1 is the set with the bits of s
    for members in range(1, 2**n):
        inside = [bit for bit in range(n) if members >> bit & 1]
        terms = [conditional[members - 1, bit] + log_p[members ^ 1 << bit] for bit in inside]
        log_p[members] = np.logaddexp.reduce(terms) - math.log(len(inside))
    return float(log_p[-1])
