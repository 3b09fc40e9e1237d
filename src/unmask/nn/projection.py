"""Asking a model for logits only where somebody reads them.

The vocabulary projection is most of a small model's cost. A model that has ``hidden_states`` and ``logits_at`` pays it at
the asked positions only; any other ``MLMModel`` is run whole and read there. One with ``hidden_states_where`` saves most of its
last block as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_FIELDS = ("attention_mask", "positions", "block_mask", "segment_ids")
Where = Bool[Tensor, "batch seq"] | Int[Tensor, " scored"]


def logits_where(model: Any, batch: Mapping[str, Any], where: Where) -> Float[Tensor, "scored vocab"]:
    """The model's logits at the positions of ``where``: True in a mask ``[B, L]``, in row-major order, or a flat index ``[N]``."""
    if hasattr(model, "hidden_states") and hasattr(model, "logits_at"):
        states = _states_where(model, batch, _index(where))[None]
        return model.logits_at(states, where.new_ones(states.shape[:2], dtype=torch.bool))
    logits = model(batch["input_ids"], **_inputs(batch))
    return logits[where] if where.dtype == torch.bool else logits.reshape(-1, logits.shape[-1])[where]


def projection_where(
    model: Any, batch: Mapping[str, Any], index: Int[Tensor, " scored"]
) -> tuple[Float[Tensor, "scored width"], Float[Tensor, "vocab width"], Float[Tensor, " vocab"] | None] | None:
    """What the logits at a flat index are a product of: features, weight, bias; None where a model does not say.

    A model says with ``projection_of(states)``. It must agree with its ``logits_at``.
    """
    if not (hasattr(model, "hidden_states") and hasattr(model, "projection_of")):
        return None
    return model.projection_of(_states_where(model, batch, index))  # type: ignore[no-any-return]


def _states_where(model: Any, batch: Mapping[str, Any], index: Int[Tensor, " scored"]) -> Tensor:
    """Hidden states ``[N, ...]`` at a flat index; a model that has ``hidden_states_where`` need not make the others."""
    if hasattr(model, "hidden_states_where"):
        return model.hidden_states_where(batch["input_ids"], index, **_inputs(batch))  # type: ignore[no-any-return]
    return model.hidden_states(batch["input_ids"], **_inputs(batch)).flatten(0, 1)[index]  # type: ignore[no-any-return]


def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {k: batch[k] for k in _FIELDS if batch.get(k) is not None}


def _index(where: Where) -> Tensor:
    return where.flatten().nonzero()[:, 0] if where.dtype == torch.bool else where


def logits_in_chunks(
    model: Any, batch: Mapping[str, Any], where: Bool[Tensor, "batch seq"], largest: int
) -> Iterator[Float[Tensor, "chunk vocab"]]:
    """As :func:`logits_where`, in pieces of at most about ``largest`` numbers, so that memory does not grow with the batch.

    The encoder runs once. A model without ``logits_at`` makes all its logits at once, whatever ``largest`` is.
    """
    if not (hasattr(model, "hidden_states") and hasattr(model, "logits_at")):
        yield model(batch["input_ids"], **_inputs(batch))[where]
        return
    scored = _states_where(model, batch, _index(where))[None]  # (1, scored, D)
    everywhere = where.new_ones(scored.shape[:2])
    start, rows = 0, 1  # the first piece is one position, which tells the size of the vocabulary
    while start < scored.shape[1]:
        stop = start + rows
        logits = model.logits_at(scored[:, start:stop], everywhere[:, start:stop])
        rows = max(1, largest // logits.shape[-1])
        start = stop
        yield logits
