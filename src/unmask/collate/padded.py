"""Collators for plain, packed and token-labelled rows. See ``unmask.collate.collator`` for what all of them share.

    DefaultMLMCollator    bos · ids · eos        right pad      real tokens may be hidden
    PackedMLMCollator     packed documents       stacked        real tokens that are no separators
    MaskedLMCollator      tokens, mask           right pad      where mask is 1, under 80/10/10

Prompts with answers are in ``seq2seq``, blanks to fill in ``infill``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from unmask.collate.collator import (
    Assembled,
    CorruptingCollator,
    diffusion_corruption,
)
from unmask.collate.given import hideable, keep, real_tokens
from unmask.collate.layout import check_truncate, frame, pad, width_of
from unmask.collate.rows import Ragged, Rows, require_column
from unmask.contracts import SpecialIds, Truncate
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class DefaultMLMCollator(CorruptingCollator):
    """``bos · ids · eos``, padded on the right, real tokens hidden by a schedule.

    Args:
        tokenizer: anything with the special ids (Hugging Face's attribute names).
        block_size: the width for ``truncate="block"`` and the limit for ``"max"``; BOS and EOS count.
        noise_schedule: decides the level: a name, a schedule, a function ``t -> fraction hidden``, a Corruption, or
            None for uniform.
        loss_on_padding: treat PAD as an ordinary token: attended, hidden and scored.
        truncate: ``"block"``, ``"max"`` or None (see ``unmask.collate.layout``).
        add_bos, add_eos: frame each row; the two survive truncation and are never hidden.
        pad_to_multiple_of: round the width up, which suits tensor cores.
        seed, low_discrepancy_times, times, pass_through: see :class:`CorruptingCollator`.

    Input rows: ``{"input_ids": ids}``, optionally ``example_id``. Result: an ``MLMBatch``.
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: Any = None,
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
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(
            special,
            diffusion_corruption(special, noise_schedule),
            seed,
            low_discrepancy_times,
            time_sampling,
            pass_through,
        )
        self.before = (cast(int, special.require("bos").bos),) if add_bos else ()
        self.after = (cast(int, special.require("eos").eos),) if add_eos else ()
        check_truncate(truncate, block_size, len(self.before) + len(self.after), pad_to_multiple_of)
        self.block_size = block_size
        self.noise_schedule = noise_schedule
        self.truncate = truncate
        self.loss_on_padding = loss_on_padding
        self.add_bos, self.add_eos = add_bos, add_eos
        self.pad_to_multiple_of = pad_to_multiple_of

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        given, open_to = real_tokens(rows, tokens), hideable(rows, tokens)
        ids, real = self.lay_out(keep(tokens, given))
        eligible = real & self.ordinary(ids)
        if open_to is not None:
            eligible &= self.lay_out(keep(open_to, given))[0] == 1
        return self.with_padding(ids, real, eligible)

    def lay_out(self, rows: Ragged) -> tuple[Tensor, Tensor]:
        """Frame, truncate, pad and stack: ids ``[B, L]`` and which are real. Rows of masks are laid out alike."""
        framed = frame(rows, self.block_size if self.truncate else None, self.before, self.after)
        width = width_of(max(map(len, framed)), self.block_size, self.truncate, self.pad_to_multiple_of)
        return pad(framed, width, cast(int, self.special.pad))

    def with_padding(self, ids: Tensor, real: Tensor, eligible: Tensor) -> Assembled:
        """The laid-out rows, with padding an ordinary token if ``loss_on_padding`` says so."""
        if self.loss_on_padding:
            eligible, real = eligible | ~real, torch.ones_like(real)
        return Assembled(ids, real, eligible)
