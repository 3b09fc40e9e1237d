"""Care of a run folder: one writer at a time, and no leftovers of killed processes.

The lock is beside the folder (``.RUN.lock``), because ``train.resume=false`` moves the folder. It holds the number of the
process that trains, and the operating system releases it when that process ends, in whatever way.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from unmask.launch import is_first_process
from unmask.models.files import INDEX
from unmask.storage import read_json, sweep_temporaries

GRACE = 10.0  # seconds that loader processes of a killed run may hold its lock


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Lock a run folder against a second writer; ranks other than the first share the lock of the first.

    Args:
        run: the run folder, which need not exist.

    Raises:
        ValueError: another process trains in the folder; the message names it.
    """
    if not is_first_process():
        yield
        return
    home = run.resolve()
    home.parent.mkdir(parents=True, exist_ok=True)
    path = home.with_name(f".{home.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0 if _holder_runs(path) else GRACE)
    except Timeout:
        raise ValueError(
            f"Process {' on '.join(_holder(path)) or '(unknown)'} is training in the run folder {run}. Wait until it has finished or "
            "stop it (kill -INT saves a checkpoint first), or choose another folder with run=…."
        ) from None
    try:
        path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(path: Path) -> list[str]:
    """Return number and machine of the process that wrote a lock file; empty = unknown."""
    return path.read_text(encoding="utf-8").split()[:2] if path.is_file() else []


def _holder_runs(path: Path) -> bool:
    """Tell whether the process of a lock file may be running; one of another machine may."""
    match _holder(path):
        case [number, machine] if machine == socket.gethostname() and number.isdigit():
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                return False
            except PermissionError:
                return True
            return True
        case [_, _]:
            return True
    return False


def sweep_run(run: Path) -> None:
    """Delete what killed processes left in a run folder: temporary files, and checkpoints that the index does not name.

    Args:
        run: the run folder; no other process may write to it.
    """
    checkpoints = run / "checkpoints"
    for folder in (run, checkpoints):
        sweep_temporaries(folder)
    if (checkpoints / INDEX).is_file():
        index = read_json(checkpoints / INDEX)
        for folder in checkpoints.glob("step-*"):
            if folder.name not in named_checkpoints(index):
                shutil.rmtree(folder, ignore_errors=True)


def named_checkpoints(index: dict[str, object]) -> set[str]:
    """Return the names of the checkpoints that an index keeps."""
    kept = index.get("kept")
    names = [index.get("last"), index.get("best"), *(kept if isinstance(kept, list) else [])]
    return {str(name) for name in names if name is not None}
