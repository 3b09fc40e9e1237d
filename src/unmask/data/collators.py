"""Collators: every one is assemble × layout × corruption.

    assemble + layout   rows -> ids [B, L], which are real, which may be hidden       (one method per collator)
    corruption          which of those are hidden, and what stands there instead      (unmask.ops.corruption)
    noise               keyed by (seed, epoch, example_id) where rows carry an id     (unmask.randomness)

The base class below does the rest once for all of them. Rows are lists of mappings or mappings of columns
(``unmask.data.rows``). ``True`` = real token, may be hidden, is scored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMBatch, PackedFlexMLMBatch, SpecialIds, Truncate
from unmask.data.layout import check_truncate, frame, pad, width_of
from unmask.data.rows import Rows, column, require_column, scalars
from unmask.ops.corruption import Corruption, bert_corruption, scheduled_corruption, uniform_corruption
from unmask.ops.schedule import as_schedule
from unmask.ops.segments import positions_from_mask, positions_from_segments, segments_from_ends
from unmask.randomness import Noise, low_discrepancy, row_keys


@dataclass(frozen=True)
class Assembled:
    """Rows laid out and not yet corrupted; every tensor ``[B, L]``.

    Attributes:
        ids: clean tokens.
        attention_mask: True = real token.
        eligible: True = may be hidden; these positions have targets.
        positions: rotary positions, which also number the noise of a row.
        segment_ids: packed rows only.
    """

    ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    eligible: Bool[Tensor, "batch seq"]
    positions: Int[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"] | None = None


class CorruptingCollator:
    """What all collators share: the noise of each row, its corruption, the batch contract.

    Args:
        special: the tokenizer's special ids (or the tokenizer).
        corruption: what is hidden and how.
        seed: of the keyed noise, for rows that carry ``example_id``; others draw from a generator with this seed.
        low_discrepancy_levels: rows that carry ``epoch_place`` (their place in the epoch's order) get evenly spread
            levels, which lowers the variance of the loss (ALGORITHMS 1.4). Rows without it draw independently.
    """

    def __init__(self, special: Any, corruption: Corruption, seed: int = 0, low_discrepancy_levels: bool = True) -> None:
        self.special = SpecialIds.of(special)
        self.corruption = corruption
        self.seed = seed
        self.low_discrepancy_levels = low_discrepancy_levels
        self.epoch = 0
        self._is_ordinary = torch.ones(max(self.special.vocab_size, self.special.all[-1] + 1), dtype=torch.bool)
        self._is_ordinary[list(self.special.all)] = False
        self.generator = torch.Generator().manual_seed(seed)
        self._worker_seed: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Move on to another epoch: the same examples get other noise. Rows that carry ``epoch`` need no call."""
        self.epoch = epoch

    def assemble(self, rows: Rows) -> Assembled:
        """Lay the rows out; each collator's own part."""
        raise TypeError(f"{type(self).__name__} must say how its rows are laid out: define assemble(rows).")

    def noise(self, rows: Rows, assembled: Assembled) -> Noise:
        """The rows' noise: keyed where they carry an id, from this collator's generator otherwise."""
        ids = scalars(rows, "example_id")
        if ids is None:
            return Noise.from_generator(len(assembled.ids), self._own_generator())
        epoch = scalars(rows, "epoch")
        at = self.epoch if epoch is None else epoch
        places = scalars(rows, "epoch_place") if self.low_discrepancy_levels else None
        levels = None if places is None else low_discrepancy(self.seed, at, places)
        return Noise(row_keys(self.seed, at, ids), levels=levels)

    def _own_generator(self) -> torch.Generator:
        """The collator's generator; loader workers hold copies of the collator, and each copy gets its own seed."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:
            self._worker_seed = worker.seed
            self.generator.manual_seed(int(row_keys(self.seed, 0, torch.tensor([worker.seed]))))
        return self.generator

    def corrupt(self, rows: Rows) -> tuple[Assembled, Tensor, Tensor, Tensor, Tensor]:
        """Assemble and corrupt: the rows, noisy ids, targets, scored positions and probabilities, each ``[B, L]``."""
        assembled = self.assemble(rows)
        counters = torch.arange(assembled.ids.shape[1]) - (~assembled.attention_mask).long().cumprod(-1).sum(-1, keepdim=True)
        noise = replace(self.noise(rows, assembled), counters=counters)
        noisy, scored, p = self.corruption(assembled.ids, assembled.eligible, noise)
        targets = assembled.ids.masked_fill(~assembled.eligible, IGNORED_TARGET)
        return assembled, noisy, targets, scored, p.masked_fill(~assembled.eligible, 0.0)

    def __call__(self, rows: Rows) -> MLMBatch:
        assembled, noisy, targets, scored, p = self.corrupt(rows)
        return MLMBatch(
            input_ids=noisy,
            target_ids=targets,
            attention_mask=assembled.attention_mask,
            positions=assembled.positions,
            noise_mask=scored,
            p_mask=p,
        )

    def _ordinary(self, ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """True where a token is not special. (A mask that is there before anything was hidden is special too.)

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        if ids.numel():
            lowest, highest = (int(x) for x in ids.aminmax())
            if lowest < 0 or highest >= len(self._is_ordinary):
                raise ValueError(
                    f"A row holds token id {lowest if lowest < 0 else highest}, and this tokenizer's ids run from 0 to "
                    f"{len(self._is_ordinary) - 1}. The rows were made with another tokenizer: encode them again with this one."
                )
        return self._is_ordinary[ids]

def diffusion_corruption(special: SpecialIds, noise_schedule: Any) -> Corruption:
    """The corruption a collator's ``noise_schedule`` means: None is uniform, a Corruption is itself."""
    if isinstance(noise_schedule, Corruption):
        return noise_schedule
    if noise_schedule is None:
        return uniform_corruption(special.mask)
    return scheduled_corruption(special.mask, as_schedule(noise_schedule))


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
        seed, low_discrepancy_levels: of the noise.

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
        seed: int = 0,
        low_discrepancy_levels: bool = True,
    ) -> None:
        special = SpecialIds.of(tokenizer).require("pad")
        super().__init__(special, diffusion_corruption(special, noise_schedule), seed, low_discrepancy_levels)
        self.before = (cast(int, special.require("bos").bos),) if add_bos else ()
        self.after = (cast(int, special.require("eos").eos),) if add_eos else ()
        check_truncate(truncate, block_size, len(self.before) + len(self.after))
        self.block_size = block_size
        self.truncate = truncate
        self.loss_on_padding = loss_on_padding

    def assemble(self, rows: Rows) -> Assembled:
        framed = frame(require_column(rows, "input_ids"), self.block_size if self.truncate else None, self.before, self.after)
        width = width_of(max(map(len, framed)), self.block_size, self.truncate)
        assert self.special.pad is not None
        ids, real = pad(framed, width, self.special.pad)
        eligible = real & self._ordinary(ids)
        if self.loss_on_padding:
            eligible, real = eligible | ~real, torch.ones_like(real)
        return Assembled(ids, real, eligible, positions_from_mask(real))


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
        seed, low_discrepancy_levels: of the noise.
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
    ) -> None:
        special = SpecialIds.of(tokenizer)
        super().__init__(special, diffusion_corruption(special, noise_schedule), seed, low_discrepancy_levels)
        self.block_size = block_size
        self.use_flex_attn = use_flex_attn

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "input_ids")
        lengths = {len(row) for row in tokens}
        if lengths != {self.block_size}:
            raise ValueError(
                f"Packed rows hold exactly block_size={self.block_size} tokens; these hold {sorted(lengths)[:5]}. Pack the "
                "documents first, or use DefaultMLMCollator for rows of any length."
            )
        ids, real = pad(tokens, self.block_size, pad_id=0)
        if self.special.pad is not None:
            padding = ids == self.special.pad
            if self.special.pad == self.special.eos:  # then the first of a run ends the document before it
                padding[:, 1:] &= padding[:, :-1].clone()
            real = ~padding
        given = column(rows, "segment_ids")
        if given is None:
            self.special.require("eos")
            last_real = real & ~torch.cat([real[:, 1:], torch.ones_like(real[:, :1])], dim=-1)
            segments = segments_from_ends((ids == self.special.eos) | last_real)
        else:
            segments = pad(given, self.block_size, pad_id=0)[0]
            segments = torch.where(real, segments, segments.amax(-1, keepdim=True) + 1)
        return Assembled(ids, real, self._ordinary(ids), positions_from_segments(segments), segments)

    def __call__(self, rows: Rows) -> PackedFlexMLMBatch | MLMBatch:  # type: ignore[override]
        assembled, noisy, targets, scored, p = self.corrupt(rows)
        assert assembled.segment_ids is not None
        batch = PackedFlexMLMBatch(
            input_ids=noisy,
            target_ids=targets,
            positions=assembled.positions.masked_fill(~assembled.attention_mask, 0),
            segment_ids=assembled.segment_ids,
            noise_mask=scored,
            p_mask=p,
        )
        return batch if self.use_flex_attn else MLMBatch(**batch, attention_mask=assembled.attention_mask)


class MaskedLMCollator(CorruptingCollator):
    """Rows ``{"tokens", "mask"}`` to ``{"tokens", "mask", "labels"}`` under BERT's 80/10/10.

    Args:
        mask_token_id: id of the mask; never drawn as a random token.
        vocab_size: random tokens are below it.
        probability: share of the candidates that is selected.
        special_ids: ids that are neither hidden nor drawn.
        tokenizer: read ``special_ids`` off it instead.
        mask_rate, random_rate: of the selected, the shares masked and randomised; the rest is kept.
        seed: of the noise.

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
        seed: int = 0,
    ) -> None:
        if not 0 <= mask_token_id < vocab_size:
            raise ValueError(f"mask_token_id={mask_token_id} is not an id of a vocabulary of {vocab_size}.")
        known = SpecialIds.of(tokenizer) if tokenizer is not None else SpecialIds(mask_token_id, vocab_size)
        special = SpecialIds(mask_token_id, vocab_size, known.pad, others=tuple({*known.all, *special_ids} - {mask_token_id}))
        corruption = bert_corruption(mask_token_id, vocab_size, special.all, probability, mask_rate, random_rate)
        super().__init__(special, corruption, seed)

    def assemble(self, rows: Rows) -> Assembled:
        tokens, mask = require_column(rows, "tokens"), require_column(rows, "mask")
        if [len(row) for row in tokens] != [len(row) for row in mask]:
            raise ValueError("Each row's 'mask' must be as long as its 'tokens': 1 = a real token, 0 = padding.")
        width = max(map(len, tokens))
        ids, _ = pad(tokens, width, self.special.pad or 0)
        real = pad(mask, width, 0)[0].bool()
        return Assembled(ids, real, real & self._ordinary(ids), positions_from_mask(real))

    def __call__(self, rows: Rows) -> dict[str, Tensor]:  # type: ignore[override]
        assembled, noisy, targets, scored, _ = self.corrupt(rows)
        return {
            "tokens": noisy,
            "mask": assembled.attention_mask.long(),
            "labels": targets.masked_fill(~scored, IGNORED_TARGET),
        }
