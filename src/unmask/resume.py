"""The config of a run that is gone on with: what its folder says, and of what is given now, what may differ.

Whoever resumes a run names its folder; everything else is as it was. A key that is given all the same is compared with the saved one: where
it says how or for how long to run it is taken, and where it would change what is computed both values are shown and it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from unmask.config.tree import Config, load_config
from unmask.models.files import INDEX
from unmask.runs import RESUMABLE_KEYS, flat_keys


class Resumed(NamedTuple):
    """A config, and the keys in which it differs from the saved one: key -> (before, now); None for a new run."""

    config: Config
    changed: dict[str, tuple[Any, Any]] | None


def config_to_resume(path: str | Path | None, overrides: Sequence[str]) -> Resumed:
    """The config meant by a file and overrides: the saved one of their run folder, if that was begun, else their own.

    Args:
        path: a config file, or None.
        overrides: ``section.key=value``.

    Raises:
        ValueError: a given key would change what the run computes, or cannot be read.
    """
    named = [o for o in overrides if o.partition("=")[0].strip() == "run"]
    alone, error = _read(path, overrides)
    run = (
        Path(load_config(None, named).run)
        if alone is None and named
        else Path(alone.run)
        if alone is not None
        else None
    )
    saved = None if run is None else run / "config.yaml"
    if run is None or saved is None or not saved.is_file() or (alone is not None and not alone.train.resume):
        if alone is None:
            assert error is not None
            raise error
        return Resumed(alone, None)
    before = flat_keys(load_config(saved).model_dump()) | {"train.resume": True}
    given = _given_keys(path, overrides, before)
    if not (run / "checkpoints" / INDEX).is_file() and not given <= RESUMABLE_KEYS and alone is not None:
        return Resumed(alone, None)  # nothing was computed yet, and the command may be a corrected one
    now = flat_keys((alone if alone is not None else _over(before, path, overrides)).model_dump())
    refused = [key for key in sorted(given - RESUMABLE_KEYS) if before.get(key) != now[key]]
    if refused:
        changes = ", ".join(f"{key} (was {before.get(key)!r}, now {now[key]!r})" for key in refused[:6])
        raise ValueError(
            f"The run folder {run} was begun with another config; different: {changes}. Leave out what is to stay as it was, give another "
            "folder with run=…, or start anew with train.resume=false (the earlier run is moved aside)."
        )
    free = {key: (before[key], now[key]) for key in sorted(given & RESUMABLE_KEYS - {"run"}) if before[key] != now[key]}
    return Resumed(Config.model_validate(_tree(before | {key: now[key] for key in free} | {"run": str(run)})), free)


def _read(path: str | Path | None, overrides: Sequence[str]) -> tuple[Config | None, ValueError | None]:
    """What is given, on its own; it may be whole only beside what was saved."""
    try:
        return load_config(path, overrides), None
    except ValueError as error:
        return None, error


def _over(before: dict[str, Any], path: str | Path | None, overrides: Sequence[str]) -> Config:
    return load_config(path, overrides, base=_tree(before))


def _given_keys(path: str | Path | None, overrides: Sequence[str], known: dict[str, Any]) -> set[str]:
    """The keys that a file and overrides set; all keys of a section that is set as a whole."""
    keys = set() if path is None else set(flat_keys(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}))
    keys |= {override.partition("=")[0].strip() for override in overrides}
    return {key for key in known if key in keys or any(key.startswith(f"{section}.") for section in keys)}


def _tree(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[leaf] = value
    return tree
