"""Asking a model for logits only where somebody reads them.

The vocabulary projection is most of a small model's cost. A model that has ``hidden_states`` and ``logits_at`` pays it at
the asked positions only; any other ``MLMModel`` is run whole and read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor


def logits_where(model: Any, batch: Mapping[str, Any], where: Bool[Tensor, "batch seq"]) -> Float[Tensor, "scored vocab"]:
    """The model's logits at the positions of ``where`` ``[B, L]``, in row-major order."""
    inputs = {k: batch[k] for k in ("attention_mask", "positions", "block_mask", "segment_ids") if batch.get(k) is not None}
    if hasattr(model, "hidden_states") and hasattr(model, "logits_at"):
        return model.logits_at(model.hidden_states(batch["input_ids"], **inputs), where)
    return model(batch["input_ids"], **inputs)[where]
