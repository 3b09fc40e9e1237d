"""Collators for plain, packed and token-labelled rows. See ``unmask.data.corrupting`` for what all of them share.

    DefaultMLMCollator    bos · ids · eos        right pad      real tokens may be hidden
    PackedMLMCollator     packed documents       stacked        real tokens that are no separators
    MaskedLMCollator      tokens, mask           right pad      where mask is 1, under 80/10/10

Prompts with answers are in ``seq2seq``, blanks to fill in ``infill``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMBatch, PackedFlexMLMBatch, SpecialIds, Truncate
from unmask.data.corrupting import (
    Assembled,
    Corrupting,
    CorruptingCollator,
    diffusion_corruption,
)
from unmask.data.documents import documents
from unmask.data.given import hideable, keep, real_tokens
from unmask.data.layout import check_truncate, frame, pad, width_of
from unmask.data.rows import Ragged, Rows, column, lengths_of, require_column, require_flags
from unmask.ops.corruption import bert_corruption
from unmask.ops.times import Times
from unmask.randomness import low_discrepancy


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
        seed, low_discrepancy_levels, times, pass_through: see :class:`CorruptingCollator`.

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
        low_discrepancy_levels: bool = True,
        times: Times = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(special, diffusion_corruption(special, noise_schedule), seed, low_discrepancy_levels, times, pass_through)
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
        seed, low_discrepancy_levels, times, pass_through: see :class:`CorruptingCollator`.
    """

    def __init__(
        self,
        tokenizer: Any,
        block_size: int,
        noise_schedule: Any = None,
        use_flex_attn: bool = False,
        *,
        seed: int = 0,
        low_discrepancy_levels: bool = True,
        times: Times = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        special = SpecialIds.of(tokenizer)
        super().__init__(special, diffusion_corruption(special, noise_schedule), seed, low_discrepancy_levels, times, pass_through)
        self.block_size = block_size
        self.noise_schedule = noise_schedule
        self.use_flex_attn = use_flex_attn

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        if (lengths := set(lengths_of(tokens))) != {self.block_size}:
            raise ValueError(
                f"Packed rows hold exactly block_size={self.block_size} tokens; these hold {sorted(lengths)[:5]}. Pack the "
                "documents first (unmask.data.packing), or use DefaultMLMCollator for rows of any length."
            )
        padded, open_to = real_tokens(rows, tokens), hideable(rows, tokens)
        ids, real = pad(keep(tokens, padded), self.block_size, pad_id=0 if padded is None else cast(int, self.special.require("pad").pad))
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
        barred = places if padded is None and open_to is None else None
        return Assembled(ids, real, eligible & real if barred is None else eligible, segments, positions, barred=barred)

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
        seed, low_discrepancy_levels, times, pass_through: see :class:`CorruptingCollator`.

    Tokens and mask are ``[B, L]`` or ragged; a shorter row is padded with ``mask`` 0. ``labels`` are the true ids at the
    selected positions and -100 elsewhere. Rows ``{"input_ids", "attention_mask"}`` are read alike. Arguments are kept as attributes;
    ``tokenizer`` as its ``SpecialIds``, so that a pickle of the collator holds no tokenizer.
    """

    PROBABILITY = 0.15

    def __init__(
        self,
        mask_token_id: int,
        vocab_size: int,
        probability: float = PROBABILITY,
        special_ids: tuple[int, ...] = (),
        *,
        tokenizer: Any = None,
        mask_rate: float = 0.8,
        random_rate: float = 0.1,
        seed: int = 0,
        low_discrepancy_levels: bool = True,
        times: Times = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        if not 0 <= mask_token_id < vocab_size:
            raise ValueError(f"mask_token_id={mask_token_id} is not an id of a vocabulary of {vocab_size}.")
        known = SpecialIds.of(tokenizer) if tokenizer is not None else SpecialIds(mask_token_id, vocab_size)
        special = SpecialIds(mask_token_id, vocab_size, known.pad, others=tuple({*known.all, *special_ids} - {mask_token_id}))
        corruption = bert_corruption(mask_token_id, vocab_size, special.all, probability, mask_rate, random_rate)
        super().__init__(special, corruption, seed, low_discrepancy_levels, times, pass_through)
        self.mask_token_id = mask_token_id
        self.vocab_size = vocab_size
        self.probability = probability
        self.special_ids = special_ids
        self.tokenizer = None if tokenizer is None else known
        self.mask_rate, self.random_rate = mask_rate, random_rate

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "tokens", "input_ids")
        mask = require_flags(rows, "mask", "attention_mask")
        if lengths_of(tokens) != lengths_of(mask):
            raise ValueError("Each row's 'mask' must be as long as its 'tokens': 1 = a real token, 0 = padding.")
        open_to = hideable(rows, tokens)
        width = max(1, *lengths_of(tokens))
        ids, _ = pad(tokens, width, self.special.pad or 0)
        real = pad(mask, width, 0)[0].numpy() != 0
        eligible = real & self.find_specials(ids.numpy())[0]
        if open_to is not None:
            eligible &= pad(open_to, width, 0)[0].numpy() != 0
        return Assembled(ids, torch.from_numpy(real), torch.from_numpy(eligible))

    def batch(self, made: Corrupting) -> dict[str, Tensor]:
        """``tokens``, ``mask`` and ``labels``, int64 ``[B, L]``."""
        return {
            "tokens": made.noisy,
            "mask": torch.from_numpy(made.clean.attention_mask.numpy().astype(np.int64)),
            "labels": torch.from_numpy(np.where(made.scored.numpy(), made.clean.ids.numpy(), IGNORED_TARGET)),
        }
