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
    diffusion_corruption,
)
from unmask.collate.document_segments import documents
from unmask.collate.given import hideable, keep, real_tokens
from unmask.collate.layout import pad
from unmask.collate.rows import Rows, column, lengths_of, require_column
from unmask.contracts import MLMBatch, PackedFlexMLMBatch, SpecialIds
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class PackedMLMCollator(CorruptingCollator):
    """Rows of exactly ``block_size`` tokens that hold several documents, told apart by ``segment_ids``.

    A document ends with EOS, or where the row's own ``segment_ids`` say so. PAD stands only at the end of a row and is
    a segment of its own: never attended by real tokens, never hidden, never scored. Separators are never hidden. Where PAD
    and EOS are one id, the first of a run is the end of a document and the rest is padding.

    Args:
        tokenizer: anything with the special ids.
        block_size: tokens per row.
        noise_schedule: as in :class:`DefaultMLMCollator`.
        use_flex_attn: return exactly a ``PackedFlexMLMBatch`` (the model builds the BlockMask on its device);
            otherwise the same fields plus an ``attention_mask`` that is True on real tokens, so that padding costs
            nothing.
        seed, low_discrepancy_times, times, pass_through: see :class:`CorruptingCollator`.
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: Any = None,
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
                f"Packed rows hold exactly block_size={self.block_size} tokens; these hold {sorted(lengths)[:5]}. Pack the "
                "documents first (unmask.collate.packing), or use DefaultMLMCollator for rows of any length."
            )
        padded, open_to = real_tokens(rows, tokens), hideable(rows, tokens)
        ids, real = pad(
            keep(tokens, padded),
            self.block_size,
            pad_id=0 if padded is None else cast(int, self.special.require("pad").pad),
        )
        # Padding is not ordinary, whatever its id. The few that are not say where documents end, and whether there is padding.
        ordinary, places, specials = self.find_specials(ids.numpy())
        eligible = torch.from_numpy(ordinary)
        given = column(rows, "segment_ids")
        if given is None:
            last = places[specials == cast(int, self.special.require("eos").eos)]
            segments, positions = map(torch.from_numpy, documents(last, *ids.shape))
        else:
            segments = pad(keep(given, padded), self.block_size, pad_id=0)[0].clone()
            last = np.flatnonzero(np.diff(segments.numpy(), append=0))
            positions = torch.from_numpy(documents(last, *ids.shape)[1])
        if padded is not None or np.count_nonzero(specials == self.special.pad):
            padding = ids == cast(int, self.special.pad)
            if self.special.pad == self.special.eos:  # then the first of a run ends the document before it
                padding[:, 1:] &= padding[:, :-1].clone()
            real = ~padding if padded is None else real & ~padding
            segments = torch.where(real, segments, segments.where(real, -1).amax(-1, keepdim=True) + 1)
            positions = positions.where(real, 0)
        if open_to is not None:
            eligible &= pad(keep(open_to, padded), self.block_size, pad_id=0)[0] != 0
        ineligible_index = places if padded is None and open_to is None else None
        return Assembled(
            ids,
            real,
            eligible & real if ineligible_index is None else eligible,
            segments,
            positions,
            ineligible_index=ineligible_index,
        )

    def batch(self, made: CorruptedBatch) -> PackedFlexMLMBatch | MLMBatch:
        """A ``PackedFlexMLMBatch``; without FlexAttention with an ``attention_mask`` besides."""
        assert made.clean.segment_ids is not None and made.clean.positions is not None
        packed = MLMBatch(
            input_ids=made.noisy,
            target_ids=made.targets(),
            attention_mask=made.clean.attention_mask,
            positions=made.clean.positions,
            segment_ids=made.clean.segment_ids,
            noise_mask=made.scored,
            p_mask=made.p_mask(),
        )
        if self.use_flex_attn:
            del packed["attention_mask"]
            return cast(PackedFlexMLMBatch, packed)
        return packed
