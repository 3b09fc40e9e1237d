"""List the files of a folder recursively, each once and in sorted order, and count everything else.

Links are followed. A linked folder is listed once, so loops end. Links to a parent folder, hidden files, dangling links, pipes
and devices are counted and left out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

Identity = tuple[int, int]  # device and inode, equal for every name of a folder or file
_DANGLING = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


class FolderFile(NamedTuple):
    """One file of a folder.

    Attributes:
        name: path relative to the folder.
        path: path of the file.
        target: the file that a link points to; None for an ordinary file.
    """

    name: str
    path: Path
    target: Identity | None

    @property
    def identity(self) -> Identity:
        """Device and inode of the file itself."""
        return self.target or _identity(self.path)


class Listing(NamedTuple):
    """The files of a folder in sorted order, and counts of everything else, as ``{"dangling link": 2}``."""

    files: list[FolderFile]
    others: Counter[str]


def list_folder(root: Path) -> Listing:
    """List the ordinary files of a folder.

    Raises:
        OSError: a subfolder cannot be opened.
    """
    files: list[FolderFile] = []
    others: Counter[str] = Counter()
    seen: set[Identity] = set()
    holding = {_identity(parent) for parent in root.resolve().parents}
    folders = deque([("", root)])
    linked: deque[tuple[str, Path]] = deque()
    while folders or linked:
        prefix, folder = (
            folders.popleft() if folders else linked.popleft()
        )  # links last, so a folder keeps its own name
        identity = _identity(folder)
        if identity in seen:
            continue
        if identity in holding:
            others["link to a folder above"] += 1
            continue
        seen.add(identity)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name, path, is_link = prefix + entry.name, folder / entry.name, entry.is_symlink()
                if entry.name.startswith("."):
                    others["hidden folder" if entry.is_dir(follow_symlinks=False) else "hidden file"] += 1
                elif not is_link and entry.is_file(follow_symlinks=False):
                    files.append(FolderFile(name, path, None))
                elif not is_link and entry.is_dir(follow_symlinks=False):
                    folders.append((name + "/", path))
                elif not is_link:
                    others["pipe or device"] += 1
                else:
                    _follow(name, path, files, linked, others)
    return Listing(sorted(files, key=lambda file: file.name.split("/")), others)


def _follow(
    name: str, path: Path, files: list[FolderFile], linked: deque[tuple[str, Path]], others: Counter[str]
) -> None:
    """Add the target of a link to files, linked folders or others."""
    try:
        status = path.stat()
    except OSError as error:
        if error.errno not in _DANGLING:
            raise
        others["dangling link"] += 1
        return
    if stat.S_ISDIR(status.st_mode):
        linked.append((name + "/", path))
    elif stat.S_ISREG(status.st_mode):
        files.append(FolderFile(name, path, (status.st_dev, status.st_ino)))
    else:
        others["pipe or device"] += 1


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def each_once(files: Iterable[FolderFile]) -> list[FolderFile]:
    """Drop links to a file that is listed under its own name or under an earlier link."""
    listed = list(files)
    if not any(file.target for file in listed):
        return listed
    seen = {file.identity for file in listed if file.target is None}
    kept = []
    for file in listed:
        if file.target is None or file.target not in seen:
            kept.append(file)
            seen.update([file.target] if file.target else [])
    return kept


def counted(counts: Counter[str], most: int = 8) -> str:
    """Format counts as ``3 .csv files, 1 dangling link``: the most common first, then the number of unlisted ones."""
    common = counts.most_common(most)
    words = [f"{n:,} {what}{'s' if n > 1 else ''}" for what, n in common]
    rest = sum(counts.values()) - sum(n for _, n in common)
    return ", ".join(words) + (f" and {rest:,} more" if rest else "")
