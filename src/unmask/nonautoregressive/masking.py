"""Training corruption for rows of one length: exactly ``ceil(rate(t) L)`` masked tokens at a uniform time ``t``.

``unmask.ops`` corrupts; this module provides each row's noise and the batch contract. Rows with an identity
(``example_id``, ``epoch``) have keyed noise. Other rows take keys from torch's global generator; their times
are evenly spread from one random offset, each uniform on its own (MD4, 2406.04329).

Shapes: ids ``[B, L]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.ops.mask_rates import ScheduleMaskRate
from unmask.ops.position_sampling import fixed_count
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import Schedule
from unmask.ops.scheme import Corruption
from unmask.ops.selection import select_top
from unmask.randomness import Noise, Stream, low_discrepancy, row_keys, uniform

NOISE_KEYS = "noise_keys"  # field of a batch with the keys of its rows, for further draws


@dataclass(frozen=True)
class Masking:
    """From clean rows to a masked batch.

    Attributes:
        schedule: the mask-rate schedule.
        mask_id, num_tokens, length: id of the mask, size of the vocabulary, tokens per row.
        kept, randomised: fractions of the chosen tokens that stay, or become a random ordinary token; the rest is masked.
        special_ids: further special ids, besides the mask.
        seed: of rows with an identity.

    Raises:
        ValueError: a mask id outside the vocabulary, or fractions out of range.
    """

    schedule: Schedule
    mask_id: int
    num_tokens: int
    length: int
    kept: float = 0.0
    randomised: float = 0.0
    special_ids: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.mask_id < self.num_tokens:
            raise ValueError(
                f"mask_id={self.mask_id} is outside the network's vocabulary of {self.num_tokens} tokens: give an id from 0 to {self.num_tokens - 1} that the "
                "data do not use, or build the network with one more token (num_tokens + 1) and use the last id."
            )
        if self.kept < 0 or self.randomised < 0 or self.kept + self.randomised >= 1:
            raise ValueError(
                f"no_replace_prob={self.kept} and random_token_prob={self.randomised} are fractions of the chosen tokens, and the rest "
                "is masked: give numbers of at least 0 that sum to less than 1."
            )

    @property
    def corruption(self) -> Corruption:
        """The corruption: mask rate, position sampling and replacement."""
        ordinary = ordinary_ids(self.num_tokens, (*self.special_ids, self.mask_id))
        replacement = Replacement(self.mask_id, 1.0 - self.kept - self.randomised, self.randomised, ordinary)
        return Corruption(ScheduleMaskRate(self.schedule, 0.0), fixed_count, replacement)

    def __call__(self, rows: Tensor | Mapping[str, Any]) -> dict[str, Tensor]:
        """Mask part of each row.

        Args:
            rows: int64 ``[B, L]``, or columns ``{"input_ids": [B, L]}`` with ``example_id [B]`` and optionally ``epoch`` and
                ``epoch_place``, as ``MaskedTokenDataset(identified=True)`` and the training loop provide them.

        Returns:
            An ``MLMBatch`` with the rows' keys in ``noise_keys``.

        Raises:
            ValueError: rows of another length, ids outside the vocabulary, or mask ids in the data.
        """
        columns = rows if isinstance(rows, Mapping) else {"input_ids": rows}
        ids = self._checked(torch.as_tensor(columns["input_ids"]))
        noise = self._noise(columns, ids)
        noisy, scored, p = self.corruption(ids, torch.ones_like(ids, dtype=torch.bool), noise)
        return {
            "input_ids": noisy,
            "target_ids": ids,
            "noise_mask": scored,
            "p_mask": p.contiguous(),
            NOISE_KEYS: noise.keys,
        }

    def _noise(self, columns: Mapping[str, Any], ids: Int[Tensor, "batch seq"]) -> Noise:
        def column(name: str) -> Tensor | None:
            return (
                None
                if columns.get(name) is None
                else torch.as_tensor(columns[name], dtype=torch.int64, device=ids.device)
            )

        example_id = column("example_id")
        if example_id is None:
            noise = Noise.from_generator(len(ids), None, ids.device)
            offsets = torch.arange(len(ids), device=ids.device) / max(1, len(ids))
            row_uniforms = (uniform(noise.keys[:1]) + offsets).frac().clamp(min=2.0**-53) if len(ids) else None
            return replace(noise, row_uniforms=row_uniforms)
        epoch = column("epoch")
        epochs = torch.zeros_like(example_id) if epoch is None else epoch.expand_as(example_id)
        place = column("epoch_place")
        row_uniforms = None if place is None else low_discrepancy(self.seed, epochs, place)
        return Noise(row_keys(self.seed, epochs, example_id), None, row_uniforms)

    def _checked(self, ids: Tensor) -> Int[Tensor, "batch seq"]:
        if ids.dim() != 2 or ids.shape[1] != self.length or ids.is_floating_point():
            raise ValueError(
                f"A batch is int64 [B, {self.length}], with rows of exactly max_seq_len tokens, and this one is {ids.dtype} "
                f"{list(ids.shape)}. MaskedTokenDataset(data, {self.length}) has such rows; one row is row[None]."
            )
        ids = ids.long()
        lowest, highest = (int(x) for x in ids.aminmax()) if ids.numel() else (0, 0)
        if lowest < 0 or highest >= self.num_tokens:
            raise ValueError(
                f"A row holds token id {lowest if lowest < 0 else highest}, and the network's ids are 0 to {self.num_tokens - 1}. Build it "
                "with the data's vocabulary and one more token for the mask."
            )
        if bool((ids == self.mask_id).any()):
            raise ValueError(
                f"A row holds token id {self.mask_id}, which is mask_id: it would look like a masked token. Choose a mask_id that the "
                "data do not use."
            )
        return ids


def earlier(ids: Int[Tensor, "batch seq"], mask_id: int, keys: Int[Tensor, " batch"]) -> Int[Tensor, "batch seq"]:
    """Return more heavily masked rows, as in an earlier decoding step: one or more of the visible tokens are masked too.

    Their number is uniform, up to all of them, and so is their choice. A fully masked row stays as it is.

    Args:
        ids: int64 ``[B, L]``.
        mask_id: id of the mask.
        keys: int64 ``[B]``, of each row's draws.
    """
    shown = ids != mask_id
    noise = Noise(keys)
    more = (noise.per_row(Stream.MASK_RATE) * shown.sum(-1)).long() + 1
    return ids.masked_fill(select_top(noise.per_token(Stream.SELECTION, ids.shape[1]), shown, more), mask_id)


def keys_of(batch: Mapping[str, Any]) -> Int[Tensor, " batch"]:
    """Return the keys of the rows of a masked batch; drawn anew for a batch without them, and not stored in it."""
    keys: Tensor | None = batch.get(NOISE_KEYS)
    ids: Tensor = batch["input_ids"]
    return torch.randint(2**62, (len(ids),)).to(ids.device) if keys is None else keys.to(ids.device)
