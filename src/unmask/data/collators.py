"""Collators for plain, packed and token-labelled rows. See ``unmask.data.corrupting`` for what all of them share.

    DefaultMLMCollator    bos · ids · eos        right pad      real tokens may be hidden
    PackedMLMCollator     packed documents       stacked        real tokens that are no separators
    MaskedLMCollator      tokens, mask           right pad      where mask is 1, under 80/10/10

Prompts with answers are in ``seq2seq``, blanks to fill in ``infill``.
"""

from __future__ import annotations

from typing import Any, Unpack, cast

import numpy as np
import torch
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMBatch, PackedFlexMLMBatch, SpecialIds, Truncate
from unmask.data.corrupting import (
    Assembled,
    CollatorOptions,
    Corrupting,
    CorruptingCollator,
    diffusion_corruption,
)
from unmask.data.documents import documents
from unmask.data.layout import check_truncate, frame, pad, width_of
from unmask.data.rows import Ragged, Rows, column, lengths_of, require_column
from unmask.ops.corruption import bert_corruption


class DefaultMLMCollator(CorruptingCollator):
    """``bos · ids · eos``, padded on the right, real tokens hidden by a schedule.

    Args:
        tokenizer: anything with the special ids (Hugging Face's attribute names).
        block_size: the width for ``truncate="block"`` and the limit for ``"max"``; BOS and EOS count.
        noise_schedule: decides the level: a name, a schedule, a function ``t -> fraction hidden``, a Corruption, or
            None for uniform.
        loss_on_padding: treat PAD as an ordinary token: attended, hidden and scored.
        truncate: ``"block"``, ``"max"`` or None (see ``unmask.data.layout``).
        add_bos, add_eos: frame each row; the two survive truncation and are never hidden.
        pad_to_multiple_of: round the width up, which suits tensor cores.
        options: ``seed``, ``low_discrepancy_levels``, ``times``, ``pass_through`` of :class:`CorruptingCollator`.

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
        **options: Unpack[CollatorOptions],
    ) -> None:
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(special, diffusion_corruption(special, noise_schedule), **options)
        self.before = (cast(int, special.require("bos").bos),) if add_bos else ()
        self.after = (cast(int, special.require("eos").eos),) if add_eos else ()
        check_truncate(truncate, block_size, len(self.before) + len(self.after), pad_to_multiple_of)
        self.block_size = block_size
        self.truncate = truncate
        self.loss_on_padding = loss_on_padding
        self.pad_to_multiple_of = pad_to_multiple_of

    def assemble(self, rows: Rows) -> Assembled:
        ids, real = self.lay_out(require_column(rows, "input_ids"))
        return self.with_padding(ids, real, real & self.ordinary(ids))

    def lay_out(self, rows: Ragged) -> tuple[Tensor, Tensor]:
        """Frame, truncate, pad and stack: ids ``[B, L]`` and which are real."""
        framed = frame(rows, self.block_size if self.truncate else None, self.before, self.after)
        width = width_of(max(map(len, framed)), self.block_size, self.truncate, self.pad_to_multiple_of)
        return pad(framed, width, cast(int, self.special.pad))

    def with_padding(self, ids: Tensor, real: Tensor, eligible: Tensor) -> Assembled:
        """The laid-out rows, with padding an ordinary token if ``loss_on_padding`` says so."""
        if self.loss_on_padding:
            eligible, real = eligible | ~real, torch.ones_like(real)
        return Assembled(ids, real, eligible)


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
        options: ``seed``, ``low_discrepancy_levels``, ``times``, ``pass_through`` of :class:`CorruptingCollator`.
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: Any = None,
        use_flex_attn: bool = False,
        **options: Unpack[CollatorOptions],
    ) -> None:
        special = SpecialIds.of(tokenizer)
        super().__init__(special, diffusion_corruption(special, noise_schedule), **options)
        self.block_size = block_size
        self.use_flex_attn = use_flex_attn

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        if (lengths := set(lengths_of(tokens))) != {self.block_size}:
            raise ValueError(
                f"Packed rows hold exactly block_size={self.block_size} tokens; these hold {sorted(lengths)[:5]}. Pack the "
                "documents first (unmask.data.packing), or use DefaultMLMCollator for rows of any length."
            )
        ids, real = pad(tokens, self.block_size, pad_id=0)
        # Padding is not ordinary, whatever its id. The few that are not say where documents end, and whether there is padding.
        ordinary, places, specials = self.find_specials(ids.numpy())
        eligible = torch.from_numpy(ordinary)
        given = column(rows, "segment_ids")
        if given is None:
            last = places[specials == cast(int, self.special.require("eos").eos)]
            segments, positions = map(torch.from_numpy, documents(last, *ids.shape))
        else:
            segments = pad(given, self.block_size, pad_id=0)[0].clone()
            last = np.flatnonzero(np.diff(segments.numpy(), append=0))
            positions = torch.from_numpy(documents(last, *ids.shape)[1])
        if np.count_nonzero(specials == self.special.pad):
            padding = ids == cast(int, self.special.pad)
            if self.special.pad == self.special.eos:  # then the first of a run ends the document before it
                padding[:, 1:] &= padding[:, :-1].clone()
            real = ~padding
            segments = torch.where(real, segments, segments.where(real, -1).amax(-1, keepdim=True) + 1)
            positions = positions.where(real, 0)
        return Assembled(ids, real, eligible, segments, positions, barred=places)

    def batch(self, made: Corrupting) -> PackedFlexMLMBatch | MLMBatch:
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


class MaskedLMCollator(CorruptingCollator):
    """Rows ``{"tokens", "mask"}`` to ``{"tokens", "mask", "labels"}`` under BERT's 80/10/10.

    Args:
        mask_token_id: id of the mask; never drawn as a random token.
        vocab_size: random tokens are below it.
        probability: share of the candidates that is selected.
        special_ids: ids that are neither hidden nor drawn.
        tokenizer: read ``special_ids`` off it instead.
        mask_rate, random_rate: of the selected, the shares masked and randomised; the rest is kept.
        options: ``seed``, ``low_discrepancy_levels``, ``times``, ``pass_through`` of :class:`CorruptingCollator`.

    Tokens and mask are ``[B, L]`` or ragged; a shorter row is padded with ``mask`` 0. ``labels`` are the true ids at the
    selected positions and -100 elsewhere.
    """

    def __init__(
        self,
        mask_token_id: int,
        vocab_size: int,
        probability: float = 0.15,
        special_ids: tuple[int, ...] = (),
        *,
        tokenizer: Any = None,
        mask_rate: float = 0.8,
        random_rate: float = 0.1,
        **options: Unpack[CollatorOptions],
    ) -> None:
        if not 0 <= mask_token_id < vocab_size:
            raise ValueError(f"mask_token_id={mask_token_id} is not an id of a vocabulary of {vocab_size}.")
        known = SpecialIds.of(tokenizer) if tokenizer is not None else SpecialIds(mask_token_id, vocab_size)
        special = SpecialIds(mask_token_id, vocab_size, known.pad, others=tuple({*known.all, *special_ids} - {mask_token_id}))
        corruption = bert_corruption(mask_token_id, vocab_size, special.all, probability, mask_rate, random_rate)
        super().__init__(special, corruption, **options)

    def assemble(self, rows: Rows) -> Assembled:
        tokens, mask = require_column(rows, "tokens"), require_column(rows, "mask")
        if lengths_of(tokens) != lengths_of(mask):
            raise ValueError("Each row's 'mask' must be as long as its 'tokens': 1 = a real token, 0 = padding.")
        width = max(lengths_of(tokens))
        ids, _ = pad(tokens, width, self.special.pad or 0)
        real = pad(mask, width, 0)[0].numpy() != 0
        return Assembled(ids, torch.from_numpy(real), torch.from_numpy(real & self.find_specials(ids.numpy())[0]))

    def batch(self, made: Corrupting) -> dict[str, Tensor]:
        """``tokens``, ``mask`` and ``labels``, int64 ``[B, L]``."""
        return {
            "tokens": made.noisy,
            "mask": torch.from_numpy(made.clean.attention_mask.numpy().astype(np.int64)),
            "labels": torch.from_numpy(np.where(made.scored.numpy(), made.clean.ids.numpy(), IGNORED_TARGET)),
        }
