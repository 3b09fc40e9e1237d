"""Batches of any collator, as the loss reads them: the contract's names, int64 ids, boolean masks, each ``[B, L]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unmask import arrays
from unmask.contracts import IGNORED_TARGET

_IDS = ("input_ids", "target_ids", "positions", "segment_ids")
_MASKS = ("attention_mask", "noise_mask", "fixed_positions_mask")


def as_mlm_batch(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The contract's fields of a batch; a batch that has them already is itself.

    ``{"tokens", "mask", "labels"}`` (``MaskedLMCollator``) and ``{"input_ids", "attention_mask", "labels"}`` (Hugging Face) are
    renamed; their labels say which positions are scored. Ids of another integer type and masks of 0 and 1 are converted.

    Raises:
        ValueError: no targets, shapes that differ, or targets that are no ids.
    """
    batch = _renamed(batch)
    ids, targets = batch["input_ids"], batch["target_ids"]
    if ids.dim() != 2 or targets.shape != ids.shape:
        raise ValueError(
            f"A batch is input_ids [batch, length] with a target for each token, and here input_ids are {list(ids.shape)} and targets "
            f"{list(targets.shape)}. Give one row as ids[None], and -100 where there is no target."
        )
    converted = {name: _as_ids(name, batch[name]) for name in _IDS if _is_other(batch.get(name), torch.int64)}
    converted |= {name: batch[name] != 0 for name in _MASKS if _is_other(batch.get(name), torch.bool)}
    targets = converted.get("target_ids", targets)
    if arrays.on_host(targets):
        wrong = targets[(targets < 0) & (targets != IGNORED_TARGET)]
        if len(wrong):
            raise ValueError(
                f"A target is {int(wrong[0])}, which is no token id. Give {IGNORED_TARGET} where there is nothing to predict."
            )
    return {**batch, **converted} if converted else batch


def check_targets(wanted: Tensor, vocab_size: int) -> None:
    """``ValueError`` if a target is beyond the model's vocabulary; on an accelerator nothing is read back."""
    if arrays.on_host(wanted) and len(wanted) and (highest := int(wanted.max())) >= vocab_size:
        raise ValueError(
            f"A target is token id {highest}, and the model predicts ids 0 to {vocab_size - 1}. Build the model with the tokenizer's vocabulary "
            "size, or encode the rows with the tokenizer of this model."
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
            f"The batch has no targets: it holds {', '.join(map(repr, batch))}. Give 'target_ids' (or 'labels'), the true ids with -100 where "
            "there is nothing to predict."
        )
    noise = batch.get("noise_mask")
    rest = {name: value for name, value in batch.items() if name != "labels"}
    return {**rest, "target_ids": labels, "noise_mask": labels != IGNORED_TARGET if noise is None else noise}


def _is_other(value: Any, dtype: torch.dtype) -> bool:
    return value is not None and value.dtype != dtype


def _as_ids(name: str, ids: Tensor) -> Tensor:
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(
            f"{name} are token ids or places, which are whole numbers, and these are {ids.dtype}. Convert them with .long()."
        )
    return ids.long()
