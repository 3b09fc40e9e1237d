"""Atomic files and folders: complete or absent.

All output is written to a temporary name beside its destination, flushed to disk, and renamed in one atomic step. A
reader never sees a partial file, even after a crash or on a full disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_FULL = re.compile(r"No space left|os error (28|122)|quota exceeded|PytorchStreamWriter failed|file write failed", re.I)


def _explain(error: Exception, path: Path) -> Exception:
    """Return an error with a remedy for a full disk, which libraries report as errors of many classes; else the error."""
    number = error.errno if isinstance(error, OSError) else None
    full = number in (errno.ENOSPC, errno.EDQUOT) if isinstance(error, OSError) else bool(_FULL.search(str(error)))
    if full:
        return OSError(
            number or errno.ENOSPC,
            f"The disk is full: {path} could not be written. No partial file is left in the folder {path.parent}, and all that "
            "was there before is intact, an earlier checkpoint among it. Free some space (`df -h` shows it) or move the folder "
            "to a larger disk, and run the same command again: it continues from what is there.",
        )
    return error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _one_rename(path: Path, folder: bool) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        if folder:
            temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*") if folder else [temporary]:
            if not file.is_dir():
                with open(file, "rb+") as handle:
                    os.fsync(handle.fileno())
        (os.rename if folder else os.replace)(temporary, path)  # files are overwritten, folders never
        _sync_folder(path.parent)
    except Exception as error:
        explained = _explain(error, path)
        if explained is error:
            raise
        raise explained from error
    finally:
        _remove(temporary)


def atomic_file(path: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """Yield a temporary path to write; on success it is renamed to ``path``, on any error it is deleted."""
    return _one_rename(Path(path), folder=False)


def atomic_folder(path: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """Yield a temporary folder to fill; on success it is renamed to ``path``, which must not exist yet."""
    return _one_rename(Path(path), folder=True)


def sweep_temporaries(folder: Path) -> None:
    """Delete temporary files and folders of killed processes directly inside ``folder``."""
    for temporary in folder.glob(".*.tmp"):
        _remove(temporary)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is not valid JSON; the message contains its path.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}): the file is damaged or was written by another program. Delete it and create it again."
        ) from error


def digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
