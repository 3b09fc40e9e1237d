"""Training batches: a pure function of the step.

Draw number ``g`` of a run is place ``g mod n`` of epoch ``g div n`` over ``n`` windows, and a keyed permutation says which
window stands there. Optimiser step ``s`` takes the draws ``s * batch_size ..``; accumulation steps and ranks cut that range
into equal parts. So the rows of a step are the same for any number of ranks, accumulation steps and loader workers, and a
resumed run starts anywhere without replaying what came before.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from unmask.data.store.token_array import TokenArray
from unmask.data.store.token_store import TokenStore
from unmask.permutation import permute
from unmask.randomness import Stream, row_keys
from unmask.training.store_windows import WindowDataset, one_thread

Collate = Callable[[dict[str, np.ndarray]], Any]


@dataclass(frozen=True)
class InfiniteSampler(Sampler):  # type: ignore[type-arg]
    """Draws for one rank, from a given pass on, for ever.

    Attributes:
        windows: how many there are.
        rows: rows of one forward-backward pass on one rank.
        seed: of the order.
        start: number of passes already done.
        rank, ranks: which part of each pass.
    """

    windows: int
    rows: int
    seed: int
    start: int = 0
    rank: int = 0
    ranks: int = 1

    def samples(self, number: np.ndarray) -> np.ndarray:
        """The draws of the run of these numbers: ``[N]`` -> ``[N, 3]``."""
        epoch, place = np.divmod(number, self.windows)
        window = np.empty_like(place)
        for e in np.unique(epoch):
            key = row_keys(self.seed, int(Stream.ORDER), torch.tensor([e]))[0]
            window[epoch == e] = permute(torch.from_numpy(place[epoch == e]), self.windows, key).numpy()
        return np.stack([epoch, place, window], axis=1)

    def __iter__(self) -> Iterator[np.ndarray]:
        at = self.start
        while True:  # many passes are drawn at once, which costs little more than one
            first = ((at + np.arange(_AT_ONCE)) * self.ranks + self.rank) * self.rows
            yield from self.samples((first[:, None] + np.arange(self.rows)).ravel()).reshape(_AT_ONCE, self.rows, 3)
            at += _AT_ONCE


_AT_ONCE = 64


def start_method() -> str:
    """How loader processes are started: as the program chose for ``multiprocessing``; else ``spawn``, which is safe beside threads."""
    return multiprocessing.get_start_method(allow_none=True) or "spawn"


class TokenStoreData(LightningDataModule):
    """Training and validation batches from token stores.

    Args:
        train, valid: stores (or arrays of tokens) to train on and held out.
        block_size: tokens per row.
        batch_size: rows per optimiser step, over all ranks and accumulation steps.
        accumulate: passes per optimiser step.
        collate, collate_valid: from columns to batches; the second keeps its noise over the whole run.
        evaluate_rows: held-out windows per validation, spread evenly over the held-out stream.
        steps: optimiser steps of the run.
        seed: of the order.
        workers: loader processes. What they are given is copied to them by pickle, see :func:`start_method`.

    Raises:
        ValueError: the rows of a step cannot be divided among ranks and accumulation steps.
    """

    def __init__(
        self,
        train: TokenStore | TokenArray,
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
    ) -> None:
        super().__init__()
        self.train_rows = WindowDataset(train, block_size, batch_size * steps)
        self.valid_rows = WindowDataset(valid, block_size)
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.collate = collate
        self.collate_valid = collate_valid
        self.evaluate_rows = evaluate_rows
        self.seed = seed
        self.workers = workers

    def rows_per_pass(self, ranks: int) -> int:
        """Rows of one forward-backward pass on one rank."""
        if self.batch_size % (ranks * self.accumulate):
            raise ValueError(
                f"train.batch_size={self.batch_size} cannot be cut into {ranks} devices × {self.accumulate} accumulation steps: "
                f"make it a multiple of {ranks * self.accumulate}."
            )
        return self.batch_size // (ranks * self.accumulate)

    def train_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        assert self.trainer is not None
        samples = InfiniteSampler(
            windows=len(self.train_rows),
            rows=self.rows_per_pass(self.trainer.world_size),
            seed=self.seed,
            start=self.trainer.global_step * self.accumulate,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
        )
        return self._loader(self.train_rows, samples, self.collate)

    def val_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        assert self.trainer is not None
        count = min(self.evaluate_rows, len(self.valid_rows))
        chosen = np.linspace(0, len(self.valid_rows) - 1, count).round().astype(np.int64)
        samples = np.stack([np.zeros_like(chosen), np.arange(count), chosen], axis=1)
        if count < self.trainer.world_size:
            raise ValueError(
                f"There are {count} held-out windows for {self.trainer.world_size} devices. Hold out more text (data.valid_fraction), "
                "shorten data.block_size, or use fewer devices."
            )
        mine = samples[self.trainer.global_rank :: self.trainer.world_size]
        rows = self.rows_per_pass(self.trainer.world_size)
        return self._loader(
            self.valid_rows, [mine[i : i + rows] for i in range(0, len(mine), rows)], self.collate_valid
        )

    def _loader(self, rows: WindowDataset, samples: Any, collate: Collate) -> DataLoader:  # type: ignore[type-arg]
        return DataLoader(
            rows,
            batch_sampler=samples,
            collate_fn=collate,  # type: ignore[arg-type]
            num_workers=self.workers,
            worker_init_fn=one_thread,
            persistent_workers=self.workers > 0,
            multiprocessing_context=start_method() if self.workers else None,
        )
