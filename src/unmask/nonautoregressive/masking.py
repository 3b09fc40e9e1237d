"""What is hidden of rows that all have the same length: exactly ``ceil(rate(t) L)`` tokens at a uniform time ``t``.

The corruption is ``unmask.ops``'; this only finds each row's noise and puts the batch contract together. Rows with an identity
(``example_id``, ``epoch``) have noise of their own; others take keys from torch's global generator, and the times of a batch of
them are spread evenly from one random offset, each uniform on its own (MD4, 2406.04329).

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

NOISE_KEYS = "noise_keys"  # the field of a batch that names its rows for further draws


@dataclass(frozen=True)
class Masking:
    """From clean rows to a batch with some tokens hidden.

    Attributes:
        schedule: of the share hidden.
        mask_id, num_tokens, length: the mask, the vocabulary, tokens of a row.
        kept, randomised: shares of the chosen tokens that stay, or become a random ordinary token; the rest is masked.
        special_ids: ids that are not ordinary, beside the mask.
        seed: of rows with an identity.
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
                f"mask_id={self.mask_id} is no id of a network of {self.num_tokens} tokens: give one of 0 to {self.num_tokens - 1} that the "
                "data do not use, or build the network with one token more (num_tokens + 1) and take the last id."
            )
        if self.kept < 0 or self.randomised < 0 or self.kept + self.randomised >= 1:
            raise ValueError(
                f"no_replace_prob={self.kept} and random_token_prob={self.randomised} are shares of the chosen tokens, and what is left of "
                "them is masked: both at least 0 and together below 1."
            )

    @property
    def corruption(self) -> Corruption:
        """Level × choice × replacement."""
        ordinary = ordinary_ids(self.num_tokens, (*self.special_ids, self.mask_id))
        replacement = Replacement(self.mask_id, 1.0 - self.kept - self.randomised, self.randomised, ordinary)
        return Corruption(ScheduleMaskRate(self.schedule, 0.0), fixed_count, replacement)

    def __call__(self, rows: Tensor | Mapping[str, Any]) -> dict[str, Tensor]:
        """Hide part of each row.

        Args:
            rows: int64 ``[B, L]``, or columns ``{"input_ids": [B, L]}`` with ``example_id [B]`` and optionally ``epoch`` and
                ``epoch_place``, as ``MaskedTokenDataset(identified=True)`` and the training loop give them.

        Returns:
            An ``MLMBatch`` with the rows' keys in ``noise_keys``.

        Raises:
            ValueError: rows of another length, ids outside the vocabulary, or the mask among them.
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

        who = column("example_id")
        if who is None:
            noise = Noise.from_generator(len(ids), None, ids.device)
            spread = torch.arange(len(ids), device=ids.device) / max(1, len(ids))
            row_uniforms = (uniform(noise.keys[:1]) + spread).frac().clamp(min=2.0**-53) if len(ids) else None
            return replace(noise, row_uniforms=row_uniforms)
        epoch = column("epoch")
        epochs = torch.zeros_like(who) if epoch is None else epoch.expand_as(who)
        place = column("epoch_place")
        row_uniforms = None if place is None else low_discrepancy(self.seed, epochs, place)
        return Noise(row_keys(self.seed, epochs, who), None, row_uniforms)

    def _checked(self, ids: Tensor) -> Int[Tensor, "batch seq"]:
        if ids.dim() != 2 or ids.shape[1] != self.length or ids.is_floating_point():
            raise ValueError(
                f"A batch is int64 [B, {self.length}], rows of exactly as many tokens as the network has places, and this one is {ids.dtype} "
                f"{list(ids.shape)}. MaskedTokenDataset(data, {self.length}) makes such rows; one row is row[None]."
            )
        ids = ids.long()
        lowest, highest = (int(x) for x in ids.aminmax()) if ids.numel() else (0, 0)
        if lowest < 0 or highest >= self.num_tokens:
            raise ValueError(
                f"A row holds token id {lowest if lowest < 0 else highest}, and the network knows ids 0 to {self.num_tokens - 1}. Build it "
                "with num_tokens of the data's vocabulary and one more for the mask."
            )
        if bool((ids == self.mask_id).any()):
            raise ValueError(
                f"A row holds token id {self.mask_id}, which is mask_id: it could not be told from a hidden token. Give the mask an id that the "
                "data do not use."
            )
        return ids


def earlier(ids: Int[Tensor, "batch seq"], mask_id: int, keys: Int[Tensor, " batch"]) -> Int[Tensor, "batch seq"]:
    """Rows as they may have stood at an evaluation before: of the tokens that are shown one or more are hidden too.

    Every number of them is equally likely, up to all; which they are is chance. A row that shows none is left as it is.

    Args:
        ids: int64 ``[B, L]``.
        mask_id: what hides a token.
        keys: of each row's draws.
    """
    shown = ids != mask_id
    noise = Noise(keys)
    more = (noise.per_row(Stream.MASK_RATE) * shown.sum(-1)).long() + 1
    return ids.masked_fill(select_top(noise.per_token(Stream.SELECTION, ids.shape[1]), shown, more), mask_id)
