"""Logits of any model, only where they are read.

The vocabulary projection is most of a small model's cost. A model with ``hidden_states`` and ``logits_at`` computes it
at the requested positions only; any other ``MLMModel`` computes all logits, which are then indexed. A model with
``hidden_states_where`` saves most of its last block as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import HiddenStates, MLMModel, offers_hidden_states, offers_partial_states, offers_projection

_FIELDS = ("attention_mask", "positions", "block_mask", "segment_ids", "x_0")
Where = Bool[Tensor, "batch seq"] | Int[Tensor, " scored"]


def logits_where(model: MLMModel, batch: Mapping[str, Any], where: Where) -> Float[Tensor, "scored vocab"]:
    """Return logits ``[N, V]`` at ``where``: a mask ``[B, L]`` (row-major order), or a flat index ``[N]``."""
    if offers_hidden_states(model):
        states = _states_where(model, batch, _index(where))[None]
        return model.logits_at(states, where.new_ones(states.shape[:2], dtype=torch.bool))
    logits = model(batch["input_ids"], **_inputs(batch))
    return logits[where] if where.dtype == torch.bool else logits.reshape(-1, logits.shape[-1])[where]


def projection_where(
    model: MLMModel, batch: Mapping[str, Any], index: Int[Tensor, " scored"]
) -> tuple[Float[Tensor, "scored width"], Float[Tensor, "vocab width"], Float[Tensor, " vocab"] | None] | None:
    """Return the factors of the logits at a flat index (features, weight, bias), or None without ``projection_of``.

    ``projection_of(states)`` must agree with the model's ``logits_at``.
    """
    if not offers_projection(model):
        return None
    return model.projection_of(_states_where(model, batch, index))


def _states_where(model: HiddenStates, batch: Mapping[str, Any], index: Int[Tensor, " scored"]) -> Tensor:
    """Return hidden states ``[N, ...]`` at a flat index, computed alone by a model with ``hidden_states_where``."""
    if offers_partial_states(model):
        return model.hidden_states_where(batch["input_ids"], index, **_inputs(batch))
    return model.hidden_states(batch["input_ids"], **_inputs(batch)).flatten(0, 1)[index]


def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {k: batch[k] for k in _FIELDS if batch.get(k) is not None}


def _index(where: Where) -> Tensor:
    return where.flatten().nonzero()[:, 0] if where.dtype == torch.bool else where


def logits_in_chunks(
    model: MLMModel, batch: Mapping[str, Any], where: Bool[Tensor, "batch seq"], largest: int
) -> Iterator[Float[Tensor, "chunk vocab"]]:
    """Yield the rows of :func:`logits_where` in pieces of about ``largest`` numbers, to bound memory for any batch
    size.

    The encoder runs once. A model without ``logits_at`` computes all its logits at once.
    """
    if not offers_hidden_states(model):
        yield model(batch["input_ids"], **_inputs(batch))[where]
        return
    scored = _states_where(model, batch, _index(where))[None]  # (1, scored, D)
    everywhere = where.new_ones(scored.shape[:2])
    start, rows = 0, 1  # the first piece is one position, and its logits have the vocabulary size
    while start < scored.shape[1]:
        stop = start + rows
        logits = model.logits_at(scored[:, start:stop], everywhere[:, start:stop])
        rows = max(1, largest // logits.shape[-1])
        start = stop
        yield logits
