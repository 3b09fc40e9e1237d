"""Validation of the batch of ``MLMPredictor.predict``: a dictionary of ids and masks becomes tensors.

Integers of any width are accepted as ids, numbers 0 and 1 as masks, and lists or NumPy arrays in place of tensors. All other input
is refused with one sentence.

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
    """A checked batch; absent fields are None.

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
    """Return the checked fields of a batch.

    Args:
        batch: a mapping with ``input_ids``, and optionally ``attention_mask``, ``fixed_positions_mask``, ``positions`` and ``example_id``.

    Raises:
        ValueError: not a mapping with ``input_ids``, or a field of another shape or type.
    """
    if not isinstance(batch, Mapping) or "input_ids" not in batch:
        got = (
            f"a dictionary of {', '.join(map(str, batch)) or 'nothing'}"
            if isinstance(batch, Mapping)
            else f"a {type(batch).__name__}"
        )
        raise ValueError(
            f"predict takes a batch of token ids, such as {{'input_ids': ids}} with ids [B, L]; got {got}. Encode text first: tokenizer.encode(text)."
        )
    ids = _integers("input_ids", _tensor("input_ids", batch["input_ids"]))
    if ids.dim() != 2:
        raise ValueError(f"input_ids has shape {list(ids.shape)}: give a batch [B, L]; one row is input_ids[None].")
    if ids.numel() and int(ids.min()) < 0:
        raise ValueError(
            f"input_ids holds {int(ids.min())}, and ids begin at 0. (-100 marks positions of target_ids, not of input_ids.)"
        )

    def optional(name: str) -> Tensor | None:
        part = batch.get(name)
        return None if part is None else _tensor(name, part).to(ids.device)

    positions, row_ids = optional("positions"), optional("example_id")
    if positions is not None and positions.shape != ids.shape:
        raise ValueError(
            f"positions has shape {list(positions.shape)} and input_ids {list(ids.shape)}: give one position per token."
        )
    if row_ids is not None and row_ids.shape != ids.shape[:1]:
        raise ValueError(
            f"example_id has shape {list(row_ids.shape)} and input_ids {list(ids.shape)}: give one integer per row."
        )
    return Given(
        ids,
        _mask("attention_mask", optional("attention_mask"), ids, "True for real tokens"),
        _mask("fixed_positions_mask", optional("fixed_positions_mask"), ids, "True for tokens that must not change"),
        None if positions is None else _integers("positions", positions),
        None if row_ids is None else _integers("example_id", row_ids),
    )


def _tensor(name: str, part: Any) -> Tensor:
    if isinstance(part, Tensor):
        return part
    try:
        tensor = torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} ({type(part).__name__}) cannot be made a tensor: give a tensor, or lists of integers of one length. Pad rows of unequal lengths first, "
            "and encode text first: tokenizer.encode(text)."
        ) from error
    return tensor.long() if tensor.numel() == 0 else tensor  # an empty list becomes float32


def _integers(name: str, part: Tensor) -> Tensor:
    if part.is_floating_point() or part.is_complex() or part.dtype == torch.bool:
        raise ValueError(
            f"{name} is a tensor of {str(part.dtype).removeprefix('torch.')}, and integers are expected: give {name}.long()."
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
