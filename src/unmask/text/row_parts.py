"""Rows of results in finished parts: what batch commands write, and continue after an interruption.

    out/settings.json          all that determines the rows; a command with other settings is refused
    out/part-00000000.jsonl    the rows of inputs 0 to part_rows - 1, written in one atomic step; and so on
    out/finished.json          written last: ``{"rows": …}``, the number of inputs

A part is a pure function of its inputs and their numbers. A command that is killed at any moment and repeated therefore leaves
the bytes of one that was not, and computes no finished part again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from unmask.storage import atomic_file, read_json, sweep_temporaries, write_json

SETTINGS, FINISHED = "settings.json", "finished.json"
PART_ROWS = 1024
Record = TypeVar("Record")
Row = TypeVar("Row")
Progress = Callable[[int, int | None], None]
Elsewhere = Callable[["RowParts", list[int]], None]
"""Parts and the numbers of the missing ones -> all of them are written."""


class RowParts:
    """The finished parts in a folder.

    Args:
        folder: the folder.
        settings: all that determines the rows, as a JSON object.
        suffix: suffix of a part, such as ``.jsonl``.

    Raises:
        ValueError: the folder holds parts of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], suffix: str) -> None:
        self.folder = folder
        self.suffix = suffix
        saved = folder / SETTINGS
        wanted = json.loads(json.dumps(settings))
        if folder.is_file() or (folder.is_dir() and not saved.is_file() and any(folder.iterdir())):
            raise ValueError(
                f"{folder} exists already and holds no parts of this command, and nothing is overwritten. Delete it, or give another name."
            )
        if not saved.is_file() or not self.finished:
            write_json(saved, wanted)
        elif (begun := read_json(saved)) != wanted:
            changed = [key for key in {**begun, **wanted} if begun.get(key) != wanted.get(key)]
            raise ValueError(
                f"{folder} holds part of the output of another command; different: {', '.join(changed)}. Repeat that command to "
                "finish it, give another output, or delete the folder."
            )
        sweep_temporaries(folder)

    @property
    def finished(self) -> list[Path]:
        """The finished parts, in order."""
        return sorted(self.folder.glob(f"part-*{self.suffix}"))

    def path(self, number: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"part-{number:08d}{self.suffix}"

    def add(self, number: int, write: Callable[[Path], object]) -> None:
        """Write a part in one atomic step; ``write`` writes the file of the path that it gets."""
        with atomic_file(self.path(number)) as temporary:
            write(temporary)


def run_in_parts(
    records: Iterable[Record],
    out: Path,
    settings: Mapping[str, Any],
    rows_of: Callable[[Sequence[Record], int], list[Row]],
    *,
    write: Callable[[Path, list[Row]], None],
    suffix: str,
    part_rows: int = PART_ROWS,
    progress: Progress | None = None,
    elsewhere: Elsewhere | None = None,
) -> tuple[int, int]:
    """Compute rows of results part by part, in order, and write each part as soon as it is finished.

    Args:
        records: the inputs, always in the same order; only those of one part are in memory.
        out: folder of the parts.
        settings: all that determines the results, beside ``part_rows``.
        rows_of: inputs of a part and the number of the first -> rows of results.
        write: writes the rows of a part to a file.
        suffix: suffix of a part.
        part_rows: inputs of a part; an interruption loses the unfinished part only.
        progress: callback ``(inputs done, None)``.
        elsewhere: writes missing parts in other processes, given the parts and their numbers; None = this process does.

    Returns:
        Number of inputs, and of those found finished.

    Raises:
        ValueError: no input, a folder of another command, or another process that writes to the folder.
    """
    if part_rows < 1:
        raise ValueError(f"A part has {part_rows} rows; it needs 1 or more.")
    with _alone(out):
        parts = RowParts(out, {**settings, "part_rows": part_rows}, suffix)
        if (out / FINISHED).is_file():
            rows: int = read_json(out / FINISHED)["rows"]
            return rows, rows
        done = found = 0
        missing: list[int] = []
        for number, some in enumerate(chunks(records, part_rows)):
            if parts.path(number).is_file():
                found += len(some)
            elif elsewhere is not None:
                missing.append(number)
            else:
                made = rows_of(some, number * part_rows)
                parts.add(number, lambda path, made=made: write(path, made))  # type: ignore[misc]  # bound per part
            done += len(some)
            if progress is not None:
                progress(done, None)
        if not done:
            raise ValueError("The input is empty: there is no row to work on.")
        if elsewhere is not None and missing:
            elsewhere(parts, missing)
        write_json(out / FINISHED, {"rows": done})
        return done, found


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of a folder, or refuse at once."""
    home = out.resolve()
    home.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.with_name(f".{home.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"Another process is writing to {out}. Wait until it has finished, or give another output."
        ) from None
    with lock:
        yield


def chunks(records: Iterable[Record], size: int) -> Iterator[tuple[Record, ...]]:
    """Yield consecutive records, ``size`` at a time."""
    rest = iter(records)
    while some := tuple(islice(rest, size)):
        yield some
