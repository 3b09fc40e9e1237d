"""Asking a model for logits only where somebody reads them.

The vocabulary projection is most of a small model's cost. A model that has ``hidden_states`` and ``logits_at`` pays it at
the asked positions only; any other ``MLMModel`` is run whole and read there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor


def logits_where(model: Any, batch: Mapping[str, Any], where: Bool[Tensor, "batch seq"]) -> Float[Tensor, "scored vocab"]:
    """The model's logits at the positions of ``where`` ``[B, L]``, in row-major order."""
    inputs = {k: batch[k] for k in ("attention_mask", "positions", "block_mask", "segment_ids") if batch.get(k) is not None}
    if hasattr(model, "hidden_states") and hasattr(model, "logits_at"):
        return model.logits_at(model.hidden_states(batch["input_ids"], **inputs), where)
    return model(batch["input_ids"], **inputs)[where]


def logits_in_chunks(
    model: Any, batch: Mapping[str, Any], where: Bool[Tensor, "batch seq"], largest: int
) -> Iterator[Float[Tensor, "chunk vocab"]]:
    """As :func:`logits_where`, in pieces of at most about ``largest`` numbers, so that memory does not grow with the batch.

    The encoder runs once. A model without ``logits_at`` makes all its logits at once, whatever ``largest`` is.
    """
    inputs = {k: batch[k] for k in ("attention_mask", "positions", "block_mask", "segment_ids") if batch.get(k) is not None}
    if not (hasattr(model, "hidden_states") and hasattr(model, "logits_at")):
        yield model(batch["input_ids"], **inputs)[where]
        return
    scored = model.hidden_states(batch["input_ids"], **inputs)[where][None]  # (1, scored, D)
    everywhere = where.new_ones(scored.shape[:2])
    start, rows = 0, 1  # the first piece is one position, which tells the size of the vocabulary
    while start < scored.shape[1]:
        stop = start + rows
        logits = model.logits_at(scored[:, start:stop], everywhere[:, start:stop])
        rows = max(1, largest // logits.shape[-1])
        start = stop
        yield logits
