"""The base class of all collators: assemble × layout × corruption.

    assemble + layout   rows -> ids [B, L], real tokens, maskable tokens        (one method per collator)
    corruption          which maskable tokens are masked, and by what           (unmask.ops.scheme)
    noise               keyed by (seed, epoch, example_id) if rows have an id   (unmask.randomness)

Rows are lists of mappings or mappings of columns (``unmask.collate.rows``). Besides the tokens, rows may hold

    example_id    unique id of the example; equal (seed, epoch, example_id) means equal noise in any batch
    epoch         replaces the collator's own epoch; set by datasets that count their passes
    epoch_place   index of the row in the order of the epoch; spreads the mask rates evenly over the global batch
    progress      fraction of training done, for mask-rate curricula

and the masks and labels of other tools (``unmask.collate.given``).

The noise of a row with an ``example_id`` is fixed within an epoch, as validation requires. A training loop calls
``set_epoch`` before each pass, or uses rows with an ``epoch``. Rows without an id get new noise at every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.arrays import copy, flat_nonzero
from unmask.collate.rows import RowIdentity, Rows, carried, read_identity
from unmask.contracts import IGNORED_TARGET, MLMBatch, SpecialIds
from unmask.ops.corruption import scheduled_corruption, uniform_corruption
from unmask.ops.schedule import Schedule, as_schedule
from unmask.ops.scheme import Corruption
from unmask.ops.segments import positions_from_mask
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import Noise, low_discrepancy, row_keys
from unmask.shared_counts import SharedCounts

NoiseSchedule = str | Schedule | Corruption | Callable[[Any], Any] | None
"""A collator's ``noise_schedule``: a name, schedule, function ``t -> mask rate``, corruption, or None for uniform."""


@dataclass(frozen=True)
class Assembled:
    """Rows laid out and not yet corrupted; every tensor ``[B, L]``.

    Attributes:
        ids: clean tokens, int64.
        attention_mask: True = real token.
        eligible: True = maskable; these positions have targets.
        segment_ids, positions: packed rows only; other collators number the real tokens.
        fixed: infilling only: True = given, never masked and never changed.
        ineligible_index: indices of the other positions in the flattened batch, if already known.
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
    """Rows laid out and corrupted; every tensor ``[B, L]``.

    Attributes:
        clean: the rows before corruption.
        noisy: the model's input.
        scored: positions that the loss scores.
        p: probability that a position was masked.
    """

    clean: Assembled
    noisy: Int[Tensor, "batch seq"]
    scored: Bool[Tensor, "batch seq"]
    p: Float[Tensor, "batch seq"]

    def targets(self) -> Int[Tensor, "batch seq"]:
        """Return the clean tokens at maskable positions, -100 elsewhere."""
        targets = copy(self.clean.ids.numpy())
        targets.reshape(-1)[self._ineligible_index] = IGNORED_TARGET
        return torch.from_numpy(targets)

    def p_mask(self) -> Float[Tensor, "batch seq"]:
        """Return the mask probabilities at maskable positions, 0 elsewhere."""
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
    """Keyword options of every collator, see :class:`CorruptingCollator`."""

    seed: int
    low_discrepancy_times: bool
    time_sampling: TimeSampling
    pass_through: Sequence[str]


class CorruptingCollator:
    """Base class of the collators: noise per row, corruption, and the fields of the batch.

    Args:
        special: the tokenizer, or its ``SpecialIds``.
        corruption: the corruption to apply.

    Other Parameters:
        seed: seed of the keyed noise of rows with an ``example_id``, and of the generator for other rows.
        low_discrepancy_times: spread the mask rates of rows with an ``epoch_place`` evenly, which lowers the variance
            of the loss (docs/theory.md, "Variance of the estimate"). Other rows sample independently.
        time_sampling: how mask rates are spread (``unmask.ops.time_sampling``).
        pass_through: fields of the rows to copy into the batch: numbers of equal shape as a tensor, other values as a
            list.
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
        self.special: SpecialIds = SpecialIds.of(special)
        self.corruption = corruption
        self.seed = seed
        self.low_discrepancy_times = low_discrepancy_times
        self.time_sampling: TimeSampling | None = time_sampling if low_discrepancy_times else None
        self.pass_through: tuple[str, ...] = tuple(pass_through)
        self._epoch = SharedCounts()
        self.generator: torch.Generator = torch.Generator().manual_seed(seed)
        self._worker_seed: int | None = None
        self._is_ordinary = np.ones(max(self.special.vocab_size, self.special.all[-1] + 1), dtype=bool)
        self._is_ordinary[list(self.special.all)] = False
        self._ordinary_run, self._strays = _longest_run(self._is_ordinary)

    def __getstate__(self) -> dict[str, Any]:
        # A pickled generator is a tensor in shared memory, which may vanish before a spawned worker opens it.
        return {**self.__dict__, "generator": self.generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        words = torch.from_numpy(np.frombuffer(state["generator"], dtype=np.uint8).copy())
        self.__dict__.update({**state, "generator": torch.Generator().set_state(words)})

    @property
    def epoch(self) -> int:
        """The epoch of rows without an ``epoch`` field."""
        return int(self._epoch.values[0])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, so that the same examples get new noise; not needed for rows with an ``epoch`` field.

        Call it before a pass. It also reaches loader workers that stay alive between passes
        (``persistent_workers=True``).

        Args:
            epoch: number of the pass, from 0.
        """
        self._epoch.values[0] = epoch

    def __call__(self, rows: Rows) -> Any:
        """Collate rows into a batch.

        Args:
            rows: a list of mappings, or one mapping of columns.

        Returns:
            The batch, with the ``pass_through`` fields added.

        Raises:
            ValueError: a row lacks a field, has a field of the wrong type, or holds ids outside the vocabulary.
        """
        batch = self.collate(rows)
        if not self.pass_through:
            return batch
        if taken := sorted(set(self.pass_through) & set(batch)):
            raise ValueError(
                f"pass_through names {taken}, which the batch already has. Rename the field in the rows, such as "
                "'clean_ids'."
            )
        return {**batch, **carried(rows, self.pass_through)}

    def collate(self, rows: Rows) -> Any:
        """Return the batch without ``pass_through`` fields; prediction collators override this method."""
        corrupted = self.corrupt(rows)
        batch = self.batch(corrupted)
        return {**batch, "x_0": corrupted.clean.ids} if self.corruption.clean_prefix else batch

    def assemble(self, rows: Rows) -> Assembled:
        """Lay the rows out; every subclass defines it."""
        raise TypeError(f"{type(self).__name__} defines no layout of its rows: implement assemble(rows) -> Assembled.")

    def corrupt(self, rows: Rows) -> CorruptedBatch:
        """Lay the rows out and apply the corruption."""
        clean = self.assemble(rows)
        identity = read_identity(rows, with_place=self.time_sampling is not None)
        progress = identity.progress
        corruption = self.corruption if progress is None else self.corruption.at(progress)
        noisy, scored, p = corruption(clean.ids, clean.eligible, self.noise(identity, clean))
        return CorruptedBatch(clean, noisy, scored, p)

    def batch(self, corrupted: CorruptedBatch) -> Any:
        """Return the fields of the batch: an ``MLMBatch``, unless a subclass documents another type."""
        clean = corrupted.clean
        batch = MLMBatch(
            input_ids=corrupted.noisy,
            target_ids=corrupted.targets(),
            attention_mask=clean.attention_mask,
            positions=positions_from_mask(clean.attention_mask),
            noise_mask=corrupted.scored,
            p_mask=corrupted.p_mask(),
        )
        return batch if clean.fixed is None else MLMBatch(**batch, fixed_positions_mask=clean.fixed)

    def noise(self, identity: RowIdentity, clean: Assembled) -> Noise:
        """Return the noise of the rows: keyed for rows with an id, otherwise from the collator's generator.

        Positions count from the first real token, so left padding does not change the noise.
        """
        counters = None
        packed = clean.positions is not None  # never padded on the left
        if not packed and np.count_nonzero(clean.attention_mask.numpy()[:, :1]) < clean.ids.shape[0]:
            leading = (~clean.attention_mask).long().cumprod(-1).sum(-1, keepdim=True)
            counters = torch.arange(clean.ids.shape[1]) - leading
        within = None
        if clean.positions is not None:  # padding has positions 0, and must not be a block per token
            within = clean.positions.where(clean.attention_mask, torch.arange(clean.ids.shape[1]))
        ids, places = identity.example_id, identity.epoch_place
        if ids is None:
            return replace(
                Noise.from_generator(len(clean.ids), self._own_generator()), counters=counters, places=within
            )
        epoch = self.epoch if identity.epoch is None else identity.epoch
        row_uniforms = (
            None if self.time_sampling is None or places is None else self.time_sampling(self.seed, epoch, places)
        )
        return Noise(row_keys(self.seed, epoch, ids), counters, row_uniforms, within)

    def _own_generator(self) -> torch.Generator:
        """Return the collator's generator, seeded separately in each loader worker's copy of the collator."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:
            self._worker_seed = worker.seed
            self.generator.manual_seed(int(row_keys(self.seed, 0, torch.tensor([worker.seed]))))
        return self.generator

    def ordinary(self, ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """Return True at tokens that are not special; a mask token in the clean rows is special too.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return torch.from_numpy(self.find_specials(ids.numpy())[0])

    def find_specials(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Separate ordinary tokens from special ones, which are few.

        Args:
            ids: int64 ``[B, L]``.

        Returns:
            True at ordinary tokens ``[B, L]``; the indices of special tokens in the flattened batch, and their ids.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        ids = np.ascontiguousarray(ids)
        first, stop = self._ordinary_run
        # Viewed as unsigned, an id below the run is a large number, so one comparison tests both ends of the run.
        ordinary = ids.view(np.uint64) - first < stop - first
        index = flat_nonzero(~ordinary)
        others: NDArray[np.int64] = ids.reshape(-1)[index]
        if np.count_nonzero(others.view(np.uint64) >= len(self._is_ordinary)):
            wrong = next(int(id) for id in others if not 0 <= id < len(self._is_ordinary))
            raise ValueError(
                f"A row holds token id {wrong}, and this tokenizer's ids run from 0 to {len(self._is_ordinary) - 1}. "
                "The rows come from another tokenizer: encode them again with this one."
            )
        if self._strays:
            stray = self._is_ordinary[others]
            ordinary.reshape(-1)[index[stray]] = True
            index, others = index[~stray], others[~stray]
        return ordinary, index, others


def _longest_run(ordinary: NDArray[np.bool_]) -> tuple[tuple[np.uint64, np.uint64], bool]:
    """Return the longest run ``[first, stop)`` of ordinary ids, and whether ordinary ids exist outside it."""
    edges = np.flatnonzero(np.diff(ordinary, prepend=False, append=False)).reshape(-1, 2)
    if not len(edges):
        return (np.uint64(0), np.uint64(0)), False
    first, stop = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return (np.uint64(first), np.uint64(stop)), len(edges) > 1


def diffusion_corruption(special: SpecialIds, noise_schedule: NoiseSchedule) -> Corruption:
    """Return the corruption of a ``noise_schedule``: None is uniform, a ``Corruption`` is used as it is."""
    if isinstance(noise_schedule, Corruption):
        return noise_schedule
    if noise_schedule is None:
        return uniform_corruption(special.mask)
    return scheduled_corruption(special.mask, as_schedule(noise_schedule))
