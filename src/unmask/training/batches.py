"""Normalise batches of any collator for the loss: names of ``MLMBatch``, int64 ids, boolean masks, each ``[B, L]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unmask import arrays
from unmask.contracts import IGNORED_TARGET

_IDS = ("input_ids", "target_ids", "positions", "segment_ids", "x_0")
_MASKS = ("attention_mask", "noise_mask", "fixed_positions_mask")


def as_mlm_batch(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a batch with the fields of ``MLMBatch``; a batch that already has them is returned unchanged.

    The fields of ``{"tokens", "mask", "labels"}`` (``MaskedLMCollator``) and of ``{"input_ids", "attention_mask", "labels"}``
    (Hugging Face) are renamed; positions with a label are scored. Other integer dtypes and masks of 0 and 1 are converted.

    Raises:
        ValueError: missing targets, different shapes, or targets that are not token ids.
    """
    batch = _renamed(batch)
    ids, targets = batch["input_ids"], batch["target_ids"]
    if ids.dim() != 2 or targets.shape != ids.shape:
        raise ValueError(
            f"A batch needs input_ids and targets of one shape [batch, length]; input_ids have shape {list(ids.shape)} and targets "
            f"{list(targets.shape)}. Pass a single row as ids[None], and -100 at positions without a target."
        )
    converted = {name: _as_ids(name, batch[name]) for name in _IDS if _is_other(batch.get(name), torch.int64)}
    converted |= {name: batch[name] != 0 for name in _MASKS if _is_other(batch.get(name), torch.bool)}
    targets = converted.get("target_ids", targets)
    if arrays.on_host(targets):
        wrong = targets[(targets < 0) & (targets != IGNORED_TARGET)]
        if len(wrong):
            raise ValueError(
                f"A target is {int(wrong[0])}, which is not a token id. Pass {IGNORED_TARGET} at positions without a target."
            )
    return {**batch, **converted} if converted else batch


def check_targets(targets: Tensor, vocab_size: int) -> None:
    """Check that all targets are in the vocabulary of the model; on an accelerator the check is skipped to avoid a sync.

    Raises:
        ValueError: a target outside the vocabulary.
    """
    if arrays.on_host(targets) and len(targets) and (highest := int(targets.max())) >= vocab_size:
        raise ValueError(
            f"A target is token id {highest}, and the model predicts ids 0 to {vocab_size - 1}. Build the model with the vocabulary "
            "size of the tokenizer, or encode the rows with the tokenizer of this model."
        )


def _renamed(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    if "tokens" in batch:
        labels, mask = batch["labels"], batch.get("mask")
        named = {"input_ids": batch["tokens"], "target_ids": labels, "noise_mask": labels != IGNORED_TARGET}
        return named if mask is None else {**named, "attention_mask": mask}
    if batch.get("target_ids") is not None:
        return batch
    labels = batch.get("labels")
    if labels is None:
        raise ValueError(
            f"The batch has no targets; its fields are {', '.join(map(repr, batch))}. Add 'target_ids' (or 'labels'): the true ids, "
            "with -100 at positions without a target."
        )
    noise = batch.get("noise_mask")
    rest = {name: value for name, value in batch.items() if name != "labels"}
    return {**rest, "target_ids": labels, "noise_mask": labels != IGNORED_TARGET if noise is None else noise}


def _is_other(value: Any, dtype: torch.dtype) -> bool:
    return value is not None and value.dtype != dtype


def _as_ids(name: str, ids: Tensor) -> Tensor:
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(
            f"{name} must be integers (token ids or positions), and their dtype is {ids.dtype}. Convert them with .long()."
        )
    return ids.long()
