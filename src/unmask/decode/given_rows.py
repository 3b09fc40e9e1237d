"""What a caller hands to ``MLMPredictor.predict``, checked and made into tensors: a dictionary of ids and masks.

Whole numbers of any width are taken as ids, numbers 0 and 1 as masks, and lists or NumPy arrays in place of tensors. What cannot be
meant is refused in a sentence.

Shapes: ids, masks and positions ``[B, L]``, example ids ``[B]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Given:
    """A checked batch; what was absent is None.

    Attributes:
        ids: int64 ``[B, L]``.
        real, fixed: bool ``[B, L]``.
        positions: int64 ``[B, L]``.
        row_ids: int64 ``[B]``.
    """

    ids: Int[Tensor, "batch seq"]
    real: Bool[Tensor, "batch seq"] | None
    fixed: Bool[Tensor, "batch seq"] | None
    positions: Int[Tensor, "batch seq"] | None
    row_ids: Int[Tensor, " batch"] | None


def read_batch(batch: Any) -> Given:
    """Check a batch.

    Raises:
        ValueError: it is no dictionary with ``input_ids``, or one of its parts has another shape or other numbers.
    """
    if not isinstance(batch, Mapping) or "input_ids" not in batch:
        got = (
            f"a dictionary of {', '.join(map(str, batch)) or 'nothing'}"
            if isinstance(batch, Mapping)
            else f"a {type(batch).__name__}"
        )
        raise ValueError(
            f"predict takes a batch of token ids, such as {{'input_ids': ids}} with ids [B, L]; got {got}. Text is encoded first: tokenizer.encode(text)."
        )
    ids = _whole("input_ids", _tensor("input_ids", batch["input_ids"]))
    if ids.dim() != 2:
        raise ValueError(f"input_ids has shape {list(ids.shape)}: give a batch [B, L]; one row is input_ids[None].")
    if ids.numel() and int(ids.min()) < 0:
        raise ValueError(
            f"input_ids holds {int(ids.min())}, and ids begin at 0. (-100 marks positions of target_ids, not of input_ids.)"
        )

    def beside(name: str) -> Tensor | None:
        part = batch.get(name)
        return None if part is None else _tensor(name, part).to(ids.device)

    positions, row_ids = beside("positions"), beside("example_id")
    if positions is not None and positions.shape != ids.shape:
        raise ValueError(
            f"positions has shape {list(positions.shape)} and input_ids {list(ids.shape)}: give one position per token."
        )
    if row_ids is not None and row_ids.shape != ids.shape[:1]:
        raise ValueError(
            f"example_id has shape {list(row_ids.shape)} and input_ids {list(ids.shape)}: give one whole number per row."
        )
    return Given(
        ids,
        _mask("attention_mask", beside("attention_mask"), ids, "True where the token is real"),
        _mask("fixed_positions_mask", beside("fixed_positions_mask"), ids, "True where it must not change"),
        None if positions is None else _whole("positions", positions),
        None if row_ids is None else _whole("example_id", row_ids),
    )


def _tensor(name: str, part: Any) -> Tensor:
    if isinstance(part, Tensor):
        return part
    try:
        made = torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} ({type(part).__name__}) cannot be made a tensor: give a tensor, or lists of whole numbers of one length. Rows of unequal lengths "
            "are padded first, and text is encoded first: tokenizer.encode(text)."
        ) from error
    return made.long() if made.numel() == 0 else made  # an empty list has no type of its own


def _whole(name: str, part: Tensor) -> Tensor:
    if part.is_floating_point() or part.is_complex() or part.dtype == torch.bool:
        raise ValueError(
            f"{name} is a tensor of {str(part.dtype).removeprefix('torch.')}, and whole numbers are expected: give {name}.long()."
        )
    return part.long()


def _mask(name: str, part: Tensor | None, ids: Tensor, meaning: str) -> Tensor | None:
    if part is None or (part.dtype == torch.bool and part.shape == ids.shape):
        return part
    if part.shape != ids.shape:
        raise ValueError(
            f"{name} has shape {list(part.shape)} and input_ids {list(ids.shape)}: give one entry per token, {meaning}."
        )
    if not bool(((part == 0) | (part == 1)).all()):
        raise ValueError(f"{name} holds other numbers than 0 and 1: give one truth value per token, {meaning}.")
    return part.bool()
