"""What all collators share: every one is assemble × layout × corruption.

    assemble + layout   rows -> ids [B, L], which are real, which may be hidden       (one method per collator)
    corruption          which of those are hidden, and what stands there instead      (unmask.ops.scheme)
    noise               keyed by (seed, epoch, example_id) where rows carry an id     (unmask.randomness)

Rows are lists of mappings or mappings of columns (``unmask.data.rows``). Besides the tokens, rows may carry

    example_id    who the row is: equal (seed, epoch, example_id) is equal noise in any batch
    epoch         in place of the collator's own, for loaders whose workers hold copies of it
    epoch_place   its place in the order of the epoch: levels are then spread evenly over the global batch
    progress      the share of training done, for mask-rate curricula
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMBatch, SpecialIds
from unmask.data.rows import Rows, carried, scalars
from unmask.ops.corruption import scheduled_corruption, uniform_corruption
from unmask.ops.schedule import as_schedule
from unmask.ops.scheme import Corruption
from unmask.ops.segments import positions_from_mask
from unmask.ops.times import Times
from unmask.randomness import Noise, low_discrepancy, row_keys


@dataclass(frozen=True)
class Assembled:
    """Rows laid out and not yet corrupted; every tensor ``[B, L]``.

    Attributes:
        ids: clean tokens.
        attention_mask: True = real token.
        eligible: True = may be hidden; these positions have targets.
        segment_ids, positions: packed rows only; others count their positions over the real tokens.
        fixed: infilling only: True = given, never hidden and never changed.
    """

    ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    eligible: Bool[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"] | None = None
    positions: Int[Tensor, "batch seq"] | None = None
    fixed: Bool[Tensor, "batch seq"] | None = None


@dataclass(frozen=True)
class Corrupting:
    """Rows laid out and corrupted; every tensor ``[B, L]``."""

    clean: Assembled
    noisy: Int[Tensor, "batch seq"]
    scored: Bool[Tensor, "batch seq"]
    p: Float[Tensor, "batch seq"]

    def targets(self) -> Int[Tensor, "batch seq"]:
        """The clean tokens where something may be hidden."""
        return torch.where(self.clean.eligible, self.clean.ids, IGNORED_TARGET)

    def p_mask(self) -> Float[Tensor, "batch seq"]:
        """The probabilities where something may be hidden, 0 elsewhere."""
        return torch.from_numpy(self.p.numpy() * self.clean.eligible.numpy())


class CollatorOptions(TypedDict, total=False):
    """What every collator takes by keyword, see :class:`CorruptingCollator`."""

    seed: int
    low_discrepancy_levels: bool
    times: Times
    pass_through: Sequence[str]


class CorruptingCollator:
    """The noise of each row, its corruption, the batch contract.

    Args:
        special: the tokenizer's special ids (or the tokenizer).
        corruption: what is hidden and how.
        seed: of the keyed noise, for rows that carry ``example_id``; others draw from a generator with this seed.
        low_discrepancy_levels: rows that carry ``epoch_place`` get evenly spread levels, which lowers the variance of the
            loss (ALGORITHMS 1.4). Rows without it draw independently.
        times: how the levels are spread (``unmask.ops.times``).
        pass_through: fields of the rows to hand on in the batch: numbers of one shape as a tensor, anything else as a list.
    """

    def __init__(
        self,
        special: Any,
        corruption: Corruption,
        seed: int = 0,
        low_discrepancy_levels: bool = True,
        times: Times = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        self.special = SpecialIds.of(special)
        self.corruption = corruption
        self.seed = seed
        self.times = times if low_discrepancy_levels else None
        self.pass_through = tuple(pass_through)
        self.epoch = 0
        self.generator = torch.Generator().manual_seed(seed)
        self._worker_seed: int | None = None
        self._is_ordinary = torch.ones(max(self.special.vocab_size, self.special.all[-1] + 1), dtype=torch.bool)
        self._is_ordinary[list(self.special.all)] = False

    def set_epoch(self, epoch: int) -> None:
        """Move on to another epoch: the same examples get other noise. Rows that carry ``epoch`` need no call."""
        self.epoch = epoch

    def __call__(self, rows: Rows) -> Any:
        """The batch of some rows, with the fields to pass through."""
        batch = self.collate(rows)
        if taken := sorted(set(self.pass_through) & set(batch)):
            raise ValueError(f"pass_through names {taken}, which the batch has already. Rename the field in the rows, such as 'clean_ids'.")
        return {**batch, **carried(rows, self.pass_through)}

    def collate(self, rows: Rows) -> Any:
        """The batch itself; collators for prediction, which corrupt nothing, have their own."""
        return self.batch(self.corrupt(rows))

    def assemble(self, rows: Rows) -> Assembled:
        """Lay the rows out; each collator's own part."""
        raise TypeError(f"{type(self).__name__} must say how its rows are laid out: define assemble(rows).")

    def corrupt(self, rows: Rows) -> Corrupting:
        """Lay the rows out and hide part of them."""
        clean = self.assemble(rows)
        progress = scalars(rows, "progress", torch.float64)
        corruption = self.corruption if progress is None else self.corruption.at(progress)
        noisy, scored, p = corruption(clean.ids, clean.eligible, self.noise(rows, clean))
        return Corrupting(clean, noisy, scored, p)

    def batch(self, made: Corrupting) -> Any:
        """The fields of the batch; an ``MLMBatch`` unless a collator documents others."""
        batch = MLMBatch(
            input_ids=made.noisy,
            target_ids=made.targets(),
            attention_mask=made.clean.attention_mask,
            positions=positions_from_mask(made.clean.attention_mask),
            noise_mask=made.scored,
            p_mask=made.p_mask(),
        )
        return batch if made.clean.fixed is None else MLMBatch(**batch, fixed_positions_mask=made.clean.fixed)

    def noise(self, rows: Rows, clean: Assembled) -> Noise:
        """The rows' noise: keyed where they carry an id, from this collator's generator otherwise.

        Positions count from the first real token, so padding on the left does not move the noise.
        """
        counters = None
        if not bool(clean.attention_mask[:, :1].all()):
            leading = (~clean.attention_mask).long().cumprod(-1).sum(-1, keepdim=True)
            counters = torch.arange(clean.ids.shape[1]) - leading
        ids = scalars(rows, "example_id")
        if ids is None:
            return replace(Noise.from_generator(len(clean.ids), self._own_generator()), counters=counters)
        epoch = scalars(rows, "epoch")
        at = self.epoch if epoch is None else epoch
        places = None if self.times is None else scalars(rows, "epoch_place")
        levels = None if self.times is None or places is None else self.times(self.seed, at, places)
        return Noise(row_keys(self.seed, at, ids), counters, levels)

    def _own_generator(self) -> torch.Generator:
        """The collator's generator; loader workers hold copies of the collator, and each copy gets its own seed."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:
            self._worker_seed = worker.seed
            self.generator.manual_seed(int(row_keys(self.seed, 0, torch.tensor([worker.seed]))))
        return self.generator

    def ordinary(self, ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """True where a token is not special. (A mask that is there before anything was hidden is special too.)

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        try:
            return self._is_ordinary.index_select(0, ids.flatten()).view_as(ids)
        except (IndexError, RuntimeError):
            lowest, highest = (int(x) for x in ids.aminmax())
            raise ValueError(
                f"A row holds token id {lowest if lowest < 0 else highest}, and this tokenizer's ids run from 0 to "
                f"{len(self._is_ordinary) - 1}. The rows were made with another tokenizer: encode them again with this one."
            ) from None


def diffusion_corruption(special: SpecialIds, noise_schedule: Any) -> Corruption:
    """The corruption a collator's ``noise_schedule`` means: None is uniform, a Corruption is itself."""
    if isinstance(noise_schedule, Corruption):
        return noise_schedule
    if noise_schedule is None:
        return uniform_corruption(special.mask)
    return scheduled_corruption(special.mask, as_schedule(noise_schedule))
