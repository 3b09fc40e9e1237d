"""Collator for plain rows. ``unmask.collate.collator`` describes what all collators share.

    DefaultMLMCollator    bos · ids · eos        right pad      real tokens are maskable
    PackedMLMCollator     packed documents       stacked        real tokens except separators
    MaskedLMCollator      tokens, mask           right pad      where mask is 1, under 80/10/10

``seq2seq`` collates prompts with answers, ``infill`` texts with masks to fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.collate.collator import Assembled, CorruptingCollator, NoiseSchedule, diffusion_corruption
from unmask.collate.given import keep, maskable, real_tokens
from unmask.collate.layout import Layout, frame
from unmask.collate.rows import Ragged, Rows, require_column
from unmask.contracts import SpecialIds, Truncate
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class PaddedCollator(CorruptingCollator):
    """Base class of collators that frame, truncate and pad each row by one :class:`Layout`.

    Args:
        special: the tokenizer's special ids.
        layout: framing, truncation and padding.
        noise_schedule: see :class:`DefaultMLMCollator`; kept as an attribute.
        seed, low_discrepancy_times, time_sampling, pass_through: see :class:`CorruptingCollator`.
    """

    def __init__(
        self,
        special: SpecialIds,
        layout: Layout,
        noise_schedule: NoiseSchedule,
        seed: int,
        low_discrepancy_times: bool,
        time_sampling: TimeSampling,
        pass_through: Sequence[str],
    ) -> None:
        super().__init__(
            special,
            diffusion_corruption(special, noise_schedule),
            seed,
            low_discrepancy_times,
            time_sampling,
            pass_through,
        )
        self.layout = layout
        self.noise_schedule = noise_schedule

    @property
    def block_size(self) -> int:
        """Width of a batch under ``truncate="block"``, largest width under ``"max"``."""
        return self.layout.block_size

    @property
    def truncate(self) -> Truncate | None:
        """The truncation: ``"block"``, ``"max"`` or None."""
        return self.layout.truncate

    @property
    def add_bos(self) -> bool:
        """Whether BOS is added."""
        return bool(self.layout.before)

    @property
    def add_eos(self) -> bool:
        """Whether EOS is added."""
        return bool(self.layout.after)

    @property
    def pad_to_multiple_of(self) -> int | None:
        """The number whose multiple the width is, or None."""
        return self.layout.pad_to_multiple_of


class DefaultMLMCollator(PaddedCollator):
    """``bos · ids · eos``, padded on the right, real tokens masked by a noise schedule.

    Args:
        tokenizer: the tokenizer (Hugging Face's attribute names), or its ``SpecialIds``.
        block_size: width under ``truncate="block"``, largest width under ``"max"``; BOS and EOS count.
        noise_schedule: law of the mask rate: a name, a schedule, a function ``t -> mask rate``, a ``Corruption``, or
            None for a uniform rate.
        loss_on_padding: treat PAD as an ordinary token: attended, masked and scored.

    Other Parameters:
        truncate: ``"block"``, ``"max"`` or None (pad to the longest row, truncate nothing).
        add_bos, add_eos: frame each row; both survive truncation and are never masked.
        pad_to_multiple_of: round the width up, for tensor cores.
        seed, low_discrepancy_times, time_sampling, pass_through: see :class:`CorruptingCollator`.

    Returns (when called with rows ``{"input_ids": ids}``, optionally ``example_id``):
        An ``MLMBatch``, every tensor ``[B, L]``: ``input_ids`` and ``target_ids`` int64, ``p_mask`` float32, masks
        bool.

    Raises:
        ValueError: a special token is missing, or the numbers contradict each other.

    Examples:
        >>> from unmask import DefaultMLMCollator, SpecialIds
        >>> special = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
        >>> collate = DefaultMLMCollator(special, block_size=6, loss_on_padding=False)
        >>> batch = collate([{"input_ids": [7, 8, 9], "example_id": 0}])
        >>> batch["target_ids"].tolist()
        [[-100, 7, 8, 9, -100, -100]]
        >>> batch["attention_mask"].tolist()
        [[True, True, True, True, True, False]]
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: NoiseSchedule = None,
        loss_on_padding: bool = True,
        truncate: Truncate | None = "block",
        add_bos: bool = True,
        add_eos: bool = True,
        *,
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer)
        layout = Layout.of(special, block_size, truncate, pad_to_multiple_of, add_bos=add_bos, add_eos=add_eos)
        super().__init__(special, layout, noise_schedule, seed, low_discrepancy_times, time_sampling, pass_through)
        self.loss_on_padding = loss_on_padding

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        given, allowed = real_tokens(rows, tokens), maskable(rows, tokens)
        ids, real = self.lay_out(keep(tokens, given))
        eligible = real & self.ordinary(ids)
        if allowed is not None:
            eligible &= self.lay_out(keep(allowed, given))[0] == 1
        return self.with_padding(ids, real, eligible)

    def lay_out(self, rows: Ragged) -> tuple[Tensor, Tensor]:
        """Frame, truncate, pad and stack rows of ids or of flags: values ``[B, L]`` and the mask of real tokens."""
        return self.layout.stack(frame(rows, self.layout.limit, self.layout.before, self.layout.after))

    def with_padding(self, ids: Tensor, real: Tensor, eligible: Tensor) -> Assembled:
        """Return the assembled rows; under ``loss_on_padding``, padding is real and maskable."""
        if self.loss_on_padding:
            eligible, real = eligible | ~real, torch.ones_like(real)
        return Assembled(ids, real, eligible)
