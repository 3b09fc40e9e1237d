"""The modules of Python's standard library on this machine."""

from __future__ import annotations

import sysconfig
from pathlib import Path

_SKIPPED_FOLDERS = {
    "__pycache__", "__phello__", "dist-packages", "encodings", "idle_test", "idlelib", "lib-dynload", "lib2to3",
    "pydoc_data", "site-packages", "test", "tests",
}  # fmt: skip


def module_paths() -> list[tuple[str, Path]]:
    """Return ``(dotted name, path)`` of the modules of the standard library, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED_FOLDERS.isdisjoint(parts[:-1]) and not parts[0].startswith(("config-", "_sysconfigdata")):
            modules.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return sorted(modules)
