"""Ids that a network cannot embed, refused in words rather than by a failed look-up."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def refuse_unknown_ids(
    ids: Int[Tensor, "*shape"], size: int, real: Bool[Tensor, "*shape"] | None = None, *, wait: bool = False
) -> None:
    """Refuse ids outside an embedding.

    Args:
        ids: token ids.
        size: rows of the embedding.
        real: True = token; ids under padding are not looked at.
        wait: check on an accelerator too, which costs a device sync. Without it, only ids on a CPU are checked.

    Raises:
        ValueError: an id is below 0, or ``size`` or more.
    """
    if torch.compiler.is_compiling() or not (wait or ids.device.type == "cpu") or ids.is_meta or not ids.numel():
        return
    low, high = (int(x) for x in torch.aminmax(ids))
    if low >= 0 and high < size:
        return
    outside = (ids < 0) | (ids >= size)
    found = ids[outside if real is None else outside & real]
    if len(found):
        raise ValueError(
            f"A row holds token id {int(found[0])}, and this model's embedding has ids 0 to {size - 1}. The tokenizer has more tokens than "
            "the model (tokens added to one and not to the other?): use the model's own tokenizer, or enlarge the model "
            "(with transformers: model.resize_token_embeddings(len(tokenizer)))."
        )
