"""The files of a token store, compared with its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.storage import digest


def check_file(folder: Path, file: dict[str, Any], *, verify: bool) -> None:
    """Compare a file with its manifest entry ``{name, bytes, sha256}``.

    Args:
        folder: the store.
        file: the entry.
        verify: also compare the SHA-256.

    Raises:
        ValueError: the file is missing or differs.
    """
    path = folder / file["name"]
    if not path.exists():
        raise ValueError(damaged(folder, f"{file['name']} is missing"))
    if path.stat().st_size != file["bytes"]:
        raise ValueError(
            damaged(folder, f"{file['name']} has {path.stat().st_size} bytes where {file['bytes']} were written")
        )
    if verify and digest(path) != file["sha256"]:
        raise ValueError(
            damaged(folder, f"the contents of {file['name']} changed after they were written (SHA-256 differs)")
        )


def damaged(folder: Path, what: str) -> str:
    """Return the message of a damaged store."""
    return f"The token store {folder} is damaged: {what}. Delete the folder and prepare it again with `unmask prepare`."
