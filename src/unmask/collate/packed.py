"""Collator for packed rows: several documents in one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from unmask.collate.collator import (
    Assembled,
    CorruptedBatch,
    CorruptingCollator,
    NoiseSchedule,
    diffusion_corruption,
)
from unmask.collate.document_segments import documents
from unmask.collate.given import keep, maskable, real_tokens
from unmask.collate.layout import pad
from unmask.collate.rows import Rows, column, lengths_of, require_column
from unmask.contracts import MLMBatch, PackedFlexMLMBatch, SpecialIds
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class PackedMLMCollator(CorruptingCollator):
    """Rows of exactly ``block_size`` tokens with several documents each, distinguished by ``segment_ids``.

    A document ends with EOS, or where the row's own ``segment_ids`` change. PAD occurs only at the end of a row and is
    a segment of its own: never attended by real tokens, never masked, never scored. Separators are never masked. If PAD
    and EOS are the same id, the first of a run ends a document and the others are padding.

    Args:
        tokenizer: the tokenizer, or its ``SpecialIds``.
        block_size: tokens per row.
        noise_schedule: law of the mask rate; as in :class:`DefaultMLMCollator`.
        use_flex_attn: return exactly a ``PackedFlexMLMBatch``; the model builds the BlockMask on its device. Otherwise
            the batch also has an ``attention_mask``, True at real tokens, so that padding costs nothing.

    Other Parameters:
        seed, low_discrepancy_times, time_sampling, pass_through: see :class:`CorruptingCollator`.

    Returns (when called with rows ``{"input_ids"}``, optionally ``segment_ids``):
        A ``PackedFlexMLMBatch`` or an ``MLMBatch``, every tensor ``[B, block_size]``.

    Raises:
        ValueError: when called with a row of another length, or without EOS in the tokenizer and ``segment_ids`` in the
            rows.

    Examples:
        >>> from unmask import PackedMLMCollator, SpecialIds
        >>> collate = PackedMLMCollator(SpecialIds(mask=0, vocab_size=20, pad=1, eos=3), block_size=5)
        >>> batch = collate([{"input_ids": [7, 8, 3, 9, 3]}])
        >>> batch["segment_ids"].tolist(), batch["positions"].tolist()
        ([[0, 0, 0, 1, 1]], [[0, 1, 2, 0, 1]])
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: NoiseSchedule = None,
        use_flex_attn: bool = False,
        *,
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer)
        super().__init__(
            special,
            diffusion_corruption(special, noise_schedule),
            seed,
            low_discrepancy_times,
            time_sampling,
            pass_through,
        )
        self.block_size = block_size
        self.noise_schedule = noise_schedule
        self.use_flex_attn = use_flex_attn

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        if (lengths := set(lengths_of(tokens))) != {self.block_size}:
            raise ValueError(
                f"Packed rows hold exactly block_size={self.block_size} tokens; these hold {sorted(lengths)[:5]}. Pack "
                "the documents first (unmask.collate.packing), or use DefaultMLMCollator for rows of any length."
            )
        padded, allowed = real_tokens(rows, tokens), maskable(rows, tokens)
        ids, real = pad(
            keep(tokens, padded),
            self.block_size,
            pad_id=0 if padded is None else cast(int, self.special.require("pad").pad),
        )
        # Padding counts as special, whatever its id. The few special tokens locate document ends and padding.
        ordinary, special_index, specials = self.find_specials(ids.numpy())
        eligible = torch.from_numpy(ordinary)
        given = column(rows, "segment_ids")
        if given is None:
            last = special_index[specials == cast(int, self.special.require("eos").eos)]
            segments, positions = map(torch.from_numpy, documents(last, *ids.shape))
        else:
            segments = pad(keep(given, padded), self.block_size, pad_id=0)[0].clone()
            last = np.flatnonzero(np.diff(segments.numpy(), append=0))
            positions = torch.from_numpy(documents(last, *ids.shape)[1])
        if padded is not None or np.count_nonzero(specials == self.special.pad):
            padding = ids == cast(int, self.special.pad)
            if self.special.pad == self.special.eos:  # the first of a run ends the document before it
                padding[:, 1:] &= padding[:, :-1].clone()
            real = ~padding if padded is None else real & ~padding
            segments = torch.where(real, segments, segments.where(real, -1).amax(-1, keepdim=True) + 1)
            positions = positions.where(real, 0)
        if allowed is not None:
            eligible &= pad(keep(allowed, padded), self.block_size, pad_id=0)[0] != 0
        ineligible_index = special_index if padded is None and allowed is None else None
        return Assembled(
            ids,
            real,
            eligible & real if ineligible_index is None else eligible,
            segments,
            positions,
            ineligible_index=ineligible_index,
        )

    def batch(self, corrupted: CorruptedBatch) -> PackedFlexMLMBatch | MLMBatch:
        """Return a ``PackedFlexMLMBatch``; without FlexAttention, an ``MLMBatch`` with an ``attention_mask``."""
        clean = corrupted.clean
        assert clean.segment_ids is not None and clean.positions is not None
        packed = MLMBatch(
            input_ids=corrupted.noisy,
            target_ids=corrupted.targets(),
            attention_mask=clean.attention_mask,
            positions=clean.positions,
            segment_ids=clean.segment_ids,
            noise_mask=corrupted.scored,
            p_mask=corrupted.p_mask(),
        )
        if self.use_flex_attn:
            del packed["attention_mask"]
            return cast(PackedFlexMLMBatch, packed)
        return packed
