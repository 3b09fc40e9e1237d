"""Training batches as a pure function of the step.

Sample number ``g`` of a run is position ``g mod n`` of epoch ``g div n`` over ``n`` windows; a keyed permutation maps the
position to a window. Optimiser step ``s`` uses the samples from ``s * batch_size`` on, divided equally among accumulation
steps and ranks. The rows of a step are therefore the same for any number of ranks, accumulation steps and loader workers, and
a resumed run continues at any step without replaying earlier ones.

In a mixture, sample ``g`` comes from the store that ``store_mix.draws`` names, as its draw number ``d``: position ``d mod n_s`` of
pass ``d div n_s`` over the ``n_s`` rows of that store. Each store is thus passed through without skipping or repeating a row.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from unmask.data.store.store_mix import StoreMix, draws
from unmask.data.store.token_array import TokenArray
from unmask.data.store.token_store import TokenStore
from unmask.permutation import permute
from unmask.randomness import Stream, fold, row_keys
from unmask.training.document_rows import DocumentRows, Rows, usual_rows
from unmask.training.mixed_rows import MixedRows, PlainRows
from unmask.training.store_windows import WindowDataset, one_thread
from unmask.training.supervised_rows import Augmentation, SupervisedRows

Collate = Callable[[dict[str, np.ndarray]], Any]
RowDataset = WindowDataset | DocumentRows | SupervisedRows | MixedRows


@dataclass(frozen=True)
class InfiniteSampler(Sampler[np.ndarray]):
    """An endless stream of batches of samples for one rank.

    Attributes:
        windows: number of windows of the store.
        rows: rows of one forward-backward pass on one rank.
        seed: random seed of the order.
        start: number of passes already done.
        rank, ranks: number of this rank, and of all ranks.
        mixed: the rows of a mixture; None = one store.
    """

    windows: int
    rows: int
    seed: int
    start: int = 0
    rank: int = 0
    ranks: int = 1
    mixed: MixedRows | None = None

    def samples(self, number: np.ndarray) -> np.ndarray:
        """Return (epoch, position in the epoch, window) of sample numbers, int64 ``[N]`` -> ``[N, 3]``.

        In a mixture a fourth column is the pass over the store of the row.
        """
        epoch, position = np.divmod(number, self.windows)
        if self.mixed is None:
            return np.stack([epoch, position, self._permuted(epoch, position, self.windows)], axis=1)
        store, earlier = draws(number, self.mixed.weights)
        row, own_epoch = np.empty_like(number), np.empty_like(number)
        first = 0
        for each, size in enumerate(self.mixed.sizes):
            mine = store == each
            own_epoch[mine], place = np.divmod(earlier[mine], size)
            row[mine] = first + self._permuted(own_epoch[mine], place, size, each)
            first += size
        return np.stack([epoch, position, row, own_epoch], axis=1)

    def _permuted(self, epoch: np.ndarray, position: np.ndarray, size: int, store: int = 0) -> np.ndarray:
        """Return the rows at some positions of epochs of a store of ``size`` rows."""
        window = np.empty_like(position)
        for e in np.unique(epoch):
            key = row_keys(self.seed, int(Stream.ORDER), torch.tensor([e]))[0]
            key = fold(key, store) if store else key
            window[epoch == e] = permute(torch.from_numpy(position[epoch == e]), size, key).numpy()
        return window

    def __iter__(self) -> Iterator[np.ndarray]:
        step = self.start
        while True:  # computing many passes at once costs little more than one
            first = ((step + np.arange(_PASSES)) * self.ranks + self.rank) * self.rows
            samples = self.samples((first[:, None] + np.arange(self.rows)).ravel())
            yield from samples.reshape(_PASSES, self.rows, -1)
            step += _PASSES


_PASSES = 64


def start_method() -> str:
    """Return the start method of loader processes: that of ``multiprocessing`` if set, else ``spawn``, which is thread-safe."""
    return multiprocessing.get_start_method(allow_none=True) or "spawn"


class TokenStoreData(LightningDataModule):
    """Training and validation batches from token stores.

    Args:
        train: the store (or array of tokens) of the training split, or several stores to mix.
        valid: the store (or array of tokens) of the validation split.
        block_size: tokens per row.
        batch_size: rows per optimiser step, over all ranks and accumulation steps.
        accumulate: passes per optimiser step.
        collate, collate_valid: collators, from columns to batches; the masks of the second stay the same over the run.
        evaluate_rows: windows per validation, spread evenly over the validation split.
        steps: optimiser steps of the run.
        seed: random seed of the order.
        rows: how documents fill rows (``data.rows`` of the config); None chooses for the training store.
        eos_tail: fill rows of a supervised store with EOS, see ``SupervisedRows``.
        weights: ``[documents]`` of the training store, how often each is drawn with ``rows="document"``; None = all alike.
        augment: replaces rows of a supervised training store, see ``SupervisedRows``.
        workers: number of loader processes. Collators reach them by pickle, see :func:`start_method`.

    Raises:
        ValueError: the rows of a step cannot be divided equally among ranks and accumulation steps.
    """

    def __init__(
        self,
        train: TokenStore | TokenArray | StoreMix,
        valid: TokenStore | TokenArray,
        *,
        block_size: int,
        batch_size: int,
        accumulate: int,
        collate: Collate,
        collate_valid: Collate,
        evaluate_rows: int,
        steps: int,
        seed: int,
        workers: int = 0,
        rows: Rows | None = "stream",
        eos_tail: bool = False,
        weights: np.ndarray | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.train_rows: RowDataset = _dataset(train, block_size, rows, batch_size * steps, eos_tail, weights)
        if augment is not None:
            for member in self.train_rows.members if isinstance(self.train_rows, MixedRows) else [self.train_rows]:
                if not isinstance(member, SupervisedRows):
                    raise ValueError(
                        "data.augment is for rows with answers. Set data.kind=supervised, or leave the key out."
                    )
                member.augment, member.seed = augment, seed
        kind = rows if isinstance(self.train_rows, SupervisedRows) or rows is not None else self.train_rows.kind
        self.valid_rows: RowDataset = _dataset(valid, block_size, kind, eos_tail=eos_tail)
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.collate = collate
        self.collate_valid = collate_valid
        self.evaluate_rows = evaluate_rows
        self.seed = seed
        self.workers = workers

    def rows_per_pass(self, ranks: int) -> int:
        """Return the rows of one forward-backward pass on one rank."""
        if self.batch_size % (ranks * self.accumulate):
            raise ValueError(
                f"train.batch_size={self.batch_size} cannot be divided among {ranks} devices × {self.accumulate} accumulation steps: "
                f"make it a multiple of {ranks * self.accumulate}."
            )
        return self.batch_size // (ranks * self.accumulate)

    def examples_of(self, step: int) -> list[int]:
        """Return the numbers of the training rows of an optimiser step, over all ranks and passes."""
        samples = InfiniteSampler(len(self.train_rows), self.batch_size, self.seed, mixed=self._mixed)
        found: list[int] = samples.samples(step * self.batch_size + np.arange(self.batch_size))[:, 2].tolist()
        return found

    @property
    def _mixed(self) -> MixedRows | None:
        return self.train_rows if isinstance(self.train_rows, MixedRows) else None

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of training batches, from the step of the trainer on."""
        assert self.trainer is not None
        samples = InfiniteSampler(
            windows=len(self.train_rows),
            rows=self.rows_per_pass(self.trainer.world_size),
            seed=self.seed,
            start=self.trainer.global_step * self.accumulate,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            mixed=self._mixed,
        )
        return self._loader(self.train_rows, samples, self.collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of validation batches: the same windows every time."""
        assert self.trainer is not None
        count = min(self.evaluate_rows, len(self.valid_rows))
        chosen = np.linspace(0, len(self.valid_rows) - 1, count).round().astype(np.int64)
        samples = np.stack([np.zeros_like(chosen), np.arange(count), chosen], axis=1)
        if count < self.trainer.world_size:
            raise ValueError(
                f"The validation split has {count} windows for {self.trainer.world_size} devices. Hold out more text "
                "(data.valid_fraction), shorten data.block_size, or use fewer devices."
            )
        own = samples[self.trainer.global_rank :: self.trainer.world_size]
        rows = self.rows_per_pass(self.trainer.world_size)
        return self._loader(self.valid_rows, [own[i : i + rows] for i in range(0, len(own), rows)], self.collate_valid)

    def _loader(self, rows: RowDataset, samples: Any, collate: Collate) -> DataLoader[Any]:
        return DataLoader(
            rows,
            batch_sampler=samples,
            collate_fn=cast(Any, collate),  # the batch is a mapping of columns, not a list of rows
            num_workers=self.workers,
            worker_init_fn=one_thread,
            persistent_workers=self.workers > 0,
            multiprocessing_context=start_method() if self.workers else None,
        )


def _dataset(
    store: TokenStore | TokenArray | StoreMix,
    block_size: int,
    rows: Rows | None,
    samples: int | None = None,
    eos_tail: bool = False,
    weights: np.ndarray | None = None,
) -> RowDataset:
    """Return the rows of a store; arrays of tokens have no documents and are cut as a stream."""
    if isinstance(store, StoreMix):
        if rows is None:  # all members have rows of one kind
            rows = "packed" if all(usual_rows(each, block_size) == "packed" for each in store.stores) else "stream"
        members = [_dataset(each, block_size, rows, None, eos_tail) for each in store.stores]
        return MixedRows(cast(list[PlainRows], members), store.weights, samples)
    if not isinstance(store, TokenStore):
        return WindowDataset(store, block_size, samples)
    if store.supervised:
        return SupervisedRows(store, block_size, samples, eos_tail)
    kind = usual_rows(store, block_size) if rows is None else rows
    return (
        WindowDataset(store, block_size, samples)
        if kind == "stream"
        else DocumentRows(store, block_size, kind, samples, weights)
    )
