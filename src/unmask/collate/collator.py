"""What all collators share: every one is assemble × layout × corruption.

    assemble + layout   rows -> ids [B, L], which are real, which may be hidden       (one method per collator)
    corruption          which of those are hidden, and what stands there instead      (unmask.ops.scheme)
    noise               keyed by (seed, epoch, example_id) where rows carry an id     (unmask.randomness)

Rows are lists of mappings or mappings of columns (``unmask.collate.rows``). Besides the tokens, rows may carry

    example_id    who the row is: equal (seed, epoch, example_id) is equal noise in any batch
    epoch         in place of the collator's own, from datasets that count their passes
    epoch_place   its place in the order of the epoch: levels are then spread evenly over the global batch
    progress      the share of training done, for mask-rate curricula

and masks and labels of other tools (``unmask.collate.given``).

Rows with an ``example_id`` keep their noise until the epoch moves on, which is what validation needs. A training loop calls
``set_epoch`` before each pass, or takes rows that carry their ``epoch``. Rows without an id have new noise at every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.arrays import copy, flat_nonzero
from unmask.collate.rows import Rows, carried, scalars
from unmask.collate.shared_counts import SharedCounts
from unmask.contracts import IGNORED_TARGET, MLMBatch, SpecialIds
from unmask.ops.corruption import scheduled_corruption, uniform_corruption
from unmask.ops.schedule import as_schedule
from unmask.ops.scheme import Corruption
from unmask.ops.segments import positions_from_mask
from unmask.ops.time_sampling import TimeSampling
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
        barred: the places of the flattened batch that are not eligible, if they are known already.
    """

    ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    eligible: Bool[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"] | None = None
    positions: Int[Tensor, "batch seq"] | None = None
    fixed: Bool[Tensor, "batch seq"] | None = None
    ineligible_index: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class CorruptedBatch:
    """Rows laid out and corrupted; every tensor ``[B, L]``."""

    clean: Assembled
    noisy: Int[Tensor, "batch seq"]
    scored: Bool[Tensor, "batch seq"]
    p: Float[Tensor, "batch seq"]

    def targets(self) -> Int[Tensor, "batch seq"]:
        """The clean tokens where something may be hidden."""
        targets = copy(self.clean.ids.numpy())
        targets.reshape(-1)[self._ineligible_index] = IGNORED_TARGET
        return torch.from_numpy(targets)

    def p_mask(self) -> Float[Tensor, "batch seq"]:
        """The probabilities where something may be hidden, 0 elsewhere."""
        p = copy(self.p.numpy())
        p.reshape(-1)[self._ineligible_index] = 0.0
        return torch.from_numpy(p)

    @cached_property
    def _ineligible_index(self) -> NDArray[np.int64]:
        return (
            flat_nonzero(~self.clean.eligible.numpy())
            if self.clean.ineligible_index is None
            else self.clean.ineligible_index
        )


class CollatorOptions(TypedDict, total=False):
    """What every collator takes by keyword, see :class:`CorruptingCollator`."""

    seed: int
    low_discrepancy_times: bool
    time_sampling: TimeSampling
    pass_through: Sequence[str]


class CorruptingCollator:
    """The noise of each row, its corruption, the batch contract.

    Args:
        special: the tokenizer's special ids (or the tokenizer).
        corruption: what is hidden and how.
        seed: of the keyed noise, for rows that carry ``example_id``; others draw from a generator with this seed.
        low_discrepancy_times: rows that carry ``epoch_place`` get evenly spread levels, which lowers the variance of the
            loss (docs/theory.md, variance). Rows without it draw independently.
        times: how the levels are spread (``unmask.ops.time_sampling``).
        pass_through: fields of the rows to hand on in the batch: numbers of one shape as a tensor, anything else as a list.
    """

    def __init__(
        self,
        special: Any,
        corruption: Corruption,
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        self.special = SpecialIds.of(special)
        self.corruption = corruption
        self.seed = seed
        self.low_discrepancy_times = low_discrepancy_times
        self.time_sampling = time_sampling if low_discrepancy_times else None
        self.pass_through = tuple(pass_through)
        self._epoch = SharedCounts()
        self.generator = torch.Generator().manual_seed(seed)
        self._worker_seed: int | None = None
        self._is_ordinary = np.ones(max(self.special.vocab_size, self.special.all[-1] + 1), dtype=bool)
        self._is_ordinary[list(self.special.all)] = False
        self._ordinary_run, self._strays = _longest_run(self._is_ordinary)

    def __getstate__(self) -> dict[str, Any]:
        # A generator pickles as a tensor that is gone before a spawned worker opens its shared memory; bytes last.
        return {**self.__dict__, "generator": self.generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        words = torch.from_numpy(np.frombuffer(state["generator"], dtype=np.uint8).copy())
        self.__dict__.update({**state, "generator": torch.Generator().set_state(words)})

    @property
    def epoch(self) -> int:
        """The epoch of rows that carry none of their own."""
        return int(self._epoch.values[0])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch: the same examples get other noise. Rows that carry ``epoch`` need no call.

        Call it before a pass. It also reaches loader workers that stay alive between passes (``persistent_workers=True``).
        """
        self._epoch.values[0] = epoch

    def __call__(self, rows: Rows) -> Any:
        """The batch of some rows, with the fields to pass through."""
        batch = self.collate(rows)
        if not self.pass_through:
            return batch
        if taken := sorted(set(self.pass_through) & set(batch)):
            raise ValueError(
                f"pass_through names {taken}, which the batch has already. Rename the field in the rows, such as 'clean_ids'."
            )
        return {**batch, **carried(rows, self.pass_through)}

    def collate(self, rows: Rows) -> Any:
        """The batch itself; collators for prediction, which corrupt nothing, have their own."""
        return self.batch(self.corrupt(rows))

    def assemble(self, rows: Rows) -> Assembled:
        """Lay the rows out; each collator's own part."""
        raise TypeError(f"{type(self).__name__} must say how its rows are laid out: define assemble(rows).")

    def corrupt(self, rows: Rows) -> CorruptedBatch:
        """Lay the rows out and hide part of them."""
        clean = self.assemble(rows)
        progress = scalars(rows, "progress", torch.float64)
        corruption = self.corruption if progress is None else self.corruption.at(progress)
        noisy, scored, p = corruption(clean.ids, clean.eligible, self.noise(rows, clean))
        return CorruptedBatch(clean, noisy, scored, p)

    def batch(self, made: CorruptedBatch) -> Any:
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
        packed = clean.positions is not None  # never padded on the left
        if not packed and np.count_nonzero(clean.attention_mask.numpy()[:, :1]) < clean.ids.shape[0]:
            leading = (~clean.attention_mask).long().cumprod(-1).sum(-1, keepdim=True)
            counters = torch.arange(clean.ids.shape[1]) - leading
        ids = scalars(rows, "example_id")
        if ids is None:
            return replace(Noise.from_generator(len(clean.ids), self._own_generator()), counters=counters)
        epoch = scalars(rows, "epoch")
        at = self.epoch if epoch is None else epoch
        places = None if self.time_sampling is None else scalars(rows, "epoch_place")
        row_uniforms = (
            None if self.time_sampling is None or places is None else self.time_sampling(self.seed, at, places)
        )
        return Noise(row_keys(self.seed, at, ids), counters, row_uniforms)

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
        return torch.from_numpy(self.find_specials(ids.numpy())[0])

    def find_specials(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Which tokens of ``[B, L]`` are ordinary, and of the others, which are few, their places in the flattened batch and their ids.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        ids = np.ascontiguousarray(ids)
        first, stop = self._ordinary_run
        # Seen as unsigned, an id below the run is a large number: one comparison tells the run from all else.
        ordinary = ids.view(np.uint64) - first < stop - first
        places = flat_nonzero(~ordinary)
        others: NDArray[np.int64] = ids.reshape(-1)[places]
        if np.count_nonzero(others.view(np.uint64) >= len(self._is_ordinary)):
            wrong = next(int(id) for id in others if not 0 <= id < len(self._is_ordinary))
            raise ValueError(
                f"A row holds token id {wrong}, and this tokenizer's ids run from 0 to {len(self._is_ordinary) - 1}. The rows were "
                "made with another tokenizer: encode them again with this one."
            )
        if self._strays:
            found = self._is_ordinary[others]
            ordinary.reshape(-1)[places[found]] = True
            places, others = places[~found], others[~found]
        return ordinary, places, others


def _longest_run(ordinary: NDArray[np.bool_]) -> tuple[tuple[np.uint64, np.uint64], bool]:
    """The longest run ``[first, stop)`` of ordinary ids, and whether there are ordinary ids outside it."""
    edges = np.flatnonzero(np.diff(ordinary, prepend=False, append=False)).reshape(-1, 2)
    if not len(edges):
        return (np.uint64(0), np.uint64(0)), False
    first, stop = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return (np.uint64(first), np.uint64(stop)), len(edges) > 1


def diffusion_corruption(special: SpecialIds, noise_schedule: Any) -> Corruption:
    """The corruption a collator's ``noise_schedule`` means: None is uniform, a Corruption is itself."""
    if isinstance(noise_schedule, Corruption):
        return noise_schedule
    if noise_schedule is None:
        return uniform_corruption(special.mask)
    return scheduled_corruption(special.mask, as_schedule(noise_schedule))
