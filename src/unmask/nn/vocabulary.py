"""A check for token ids outside the embedding, with a readable error in place of a failed lookup."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def refuse_unknown_ids(
    ids: Int[Tensor, "*shape"], size: int, real: Bool[Tensor, "*shape"] | None = None, *, wait: bool = False
) -> None:
    """Raise an error for ids outside an embedding.

    Args:
        ids: token ids.
        size: number of rows of the embedding.
        real: True = token; ids under padding are not checked.
        wait: also check on an accelerator, at the cost of a device sync. By default only CPU tensors are checked.

    Raises:
        ValueError: an id is below 0, or ``size`` or more.
    """
    if torch.compiler.is_compiling() or not (wait or ids.device.type == "cpu") or ids.is_meta or not ids.numel():
        return
    low, high = (int(x) for x in torch.aminmax(ids))
    if low >= 0 and high < size:
        return
    outside = (ids < 0) | (ids >= size)
    unknown = ids[outside if real is None else outside & real]
    if len(unknown):
        raise ValueError(
            f"A row contains token id {int(unknown[0])}, and this model's embedding has ids 0 to {size - 1}. The tokenizer has more tokens "
            "than the model; perhaps tokens were added to the tokenizer only. Use the model's own tokenizer, or enlarge the "
            "model (with transformers: model.resize_token_embeddings(len(tokenizer)))."
        )
