"""The files of a folder, recursively: each once, in sorted order, and a count of what is no ordinary file.

Links are followed. A linked folder that is read already is not read again, so a loop ends; a link to a folder that
holds the whole folder is left out, and so are hidden files, dangling links, pipes and devices.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

Identity = tuple[int, int]  # device and inode: the same for every name of a folder or file
_DANGLING = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


class Found(NamedTuple):
    """A file by its name inside the folder; ``target`` is None, or what a link points at."""

    name: str
    path: Path
    target: Identity | None

    @property
    def identity(self) -> Identity:
        return self.target or _identity(self.path)


class Listing(NamedTuple):
    """Files in sorted order, and what else there is, as ``{"dangling link": 2}``."""

    files: list[Found]
    others: Counter[str]


def list_folder(root: Path) -> Listing:
    """List the ordinary files of a folder.

    Raises:
        OSError: a folder inside cannot be opened.
    """
    files: list[Found] = []
    others: Counter[str] = Counter()
    seen: set[Identity] = set()
    holding = {_identity(parent) for parent in root.resolve().parents}
    folders = deque([("", root)])
    linked: deque[tuple[str, Path]] = deque()
    while folders or linked:
        prefix, folder = folders.popleft() if folders else linked.popleft()  # links last: a folder keeps its own name
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
                    files.append(Found(name, path, None))
                elif not is_link and entry.is_dir(follow_symlinks=False):
                    folders.append((name + "/", path))
                elif not is_link:
                    others["pipe or device"] += 1
                else:
                    _follow(name, path, files, linked, others)
    return Listing(sorted(files, key=lambda found: found.name.split("/")), others)


def _follow(name: str, path: Path, files: list[Found], linked: deque[tuple[str, Path]], others: Counter[str]) -> None:
    """Sort a link by what it points at."""
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
        files.append(Found(name, path, (status.st_dev, status.st_ino)))
    else:
        others["pipe or device"] += 1


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def each_once(files: Iterable[Found]) -> list[Found]:
    """Drop links to a file that is among the files under its own name, or under an earlier link."""
    found = list(files)
    if not any(each.target for each in found):
        return found
    seen = {each.identity for each in found if each.target is None}
    kept = []
    for each in found:
        if each.target is None or each.target not in seen:
            kept.append(each)
            seen.update([each.target] if each.target else [])
    return kept


def counted(counts: Counter[str], most: int = 8) -> str:
    """``3 .csv files, 1 dangling link``: the commonest first, and how many are not listed."""
    common = counts.most_common(most)
    words = [f"{n:,} {what}{'s' if n > 1 else ''}" for what, n in common]
    rest = sum(counts.values()) - sum(n for _, n in common)
    return ", ".join(words) + (f" and {rest:,} more" if rest else "")
