"""Batch commands on Ray Data: copies of the model in actors, each of which computes whole parts of the output."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from unmask.cli.batch_options import BatchOptions
from unmask.cli.batch_work import BatchWork
from unmask.text.row_parts import RowParts

CORES = 4  # of a model copy without a GPU


class PartWriter:
    """An actor: a copy of the model that writes the parts whose numbers it gets.

    Args:
        work: the work.
        parts: the output.
        part_rows: inputs of a part.
    """

    def __init__(self, work: BatchWork, parts: RowParts, part_rows: int) -> None:
        self.work = work
        self.parts = parts
        self.part_rows = part_rows
        self.loaded = work.chosen.load()
        self._records: Iterator[Any] = iter(())
        self._next: int | None = None  # the part that begins at the next record

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Write parts, and return their numbers."""
        for number in batch["part"].tolist():
            rows = self.work.rows(self.loaded, self._inputs(number), number * self.part_rows)
            self.parts.add(number, lambda path, rows=rows: self.work.write(path, rows))  # type: ignore[misc]  # bound per part
        return {"part": np.asarray(batch["part"])}

    def _inputs(self, number: int) -> list[Any]:
        """Return the inputs of a part; later parts continue where an earlier one ended."""
        if self._next is None or number < self._next:
            self._records, self._next = self.work.records(), 0
        for _ in islice(self._records, (number - self._next) * self.part_rows):
            pass
        self._next = number + 1
        return list(islice(self._records, self.part_rows))


def write_parts_on_ray(work: BatchWork, options: BatchOptions, parts: RowParts, numbers: list[int]) -> None:
    """Write parts with copies of the model on the Ray cluster of this machine, or on a local one that is started.

    Args:
        work: the work; its input and model are on storage that all machines share.
        options: ``workers`` is the number of model copies.
        parts: the output, on shared storage too.
        numbers: numbers of the parts to write.

    Raises:
        ImportError: Ray is not installed.
    """
    from unmask.data.engines import connected

    ray = connected()
    import ray.data as data

    free = ray.cluster_resources()
    gpus, cores = int(free.get("GPU", 0)), int(free.get("CPU", 1))
    copies = min(len(numbers), options.workers or gpus or max(1, cores // CORES))
    needs: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": max(1, min(CORES, cores // copies))}
    data.DataContext.get_current().enable_progress_bars = False
    written = data.from_items([{"part": number} for number in numbers], override_num_blocks=len(numbers)).map_batches(
        PartWriter,
        fn_constructor_args=(work, parts, options.part_rows),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=copies),
        **needs,
    )
    done = sorted(row["part"] for row in written.take_all())
    if done != sorted(numbers):
        missing = sorted(set(numbers) - set(done))
        raise ValueError(
            f"Ray returned without the parts {missing} of {parts.folder}. Repeat the command to write them."
        )
