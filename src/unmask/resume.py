"""The config of a resumed run: the saved config of its folder, with the given keys that may change.

Naming the run folder is enough to resume a run. Every further key is compared with the saved one. Keys of hardware,
intervals and length (``RESUMABLE_KEYS``) are accepted; a key that would change what is computed is refused with both values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from unmask.config.override import flat_keys
from unmask.config.tree import Config, load_config
from unmask.models.files import INDEX
from unmask.runs import RESUMABLE_KEYS


class Resumed(NamedTuple):
    """A config and its differences from the saved one.

    Attributes:
        config: the config to train with.
        changed: key -> (saved value, new value); None for a new run.
    """

    config: Config
    changed: dict[str, tuple[Any, Any]] | None


def config_to_resume(path: str | Path | None, overrides: Sequence[str]) -> Resumed:
    """Return the config of a file and overrides, completed by the saved config of their run folder if the run was begun.

    Args:
        path: a config file, or None.
        overrides: ``section.key=value``.

    Raises:
        ValueError: a key that would change what the run computes, or an invalid config.
    """
    run_override = [o for o in overrides if o.partition("=")[0].strip() == "run"]
    standalone, error = _read(path, overrides)
    run: Path | None = None
    if standalone is not None:
        run = Path(standalone.run)
    elif run_override:
        run = Path(load_config(None, run_override).run)
    saved = None if run is None else run / "config.yaml"
    if run is None or saved is None or not saved.is_file() or (standalone is not None and not standalone.train.resume):
        if standalone is None:
            assert error is not None
            raise error
        return Resumed(standalone, None)
    before = flat_keys(load_config(saved).model_dump()) | {"train.resume": True}
    given = _given_keys(path, overrides, before)
    if not (run / "checkpoints" / INDEX).is_file() and not given <= RESUMABLE_KEYS and standalone is not None:
        return Resumed(standalone, None)  # no checkpoint yet, so another config may replace the saved one
    now = flat_keys((standalone if standalone is not None else _over(before, path, overrides)).model_dump())
    refused = [key for key in sorted(given - RESUMABLE_KEYS) if before.get(key) != now[key]]
    if refused:
        changes = ", ".join(f"{key} (saved: {before.get(key)!r}, now: {now[key]!r})" for key in refused[:6])
        raise ValueError(
            f"The run folder {run} was begun with another config; different: {changes}. Leave these keys out to resume the run, "
            "choose another folder with run=…, or start anew with train.resume=false (the earlier run is moved aside)."
        )
    changed = {
        key: (before[key], now[key]) for key in sorted(given & RESUMABLE_KEYS - {"run"}) if before[key] != now[key]
    }
    tree = _tree(before | {key: now[key] for key in changed} | {"run": str(run)})
    return Resumed(Config.model_validate(tree), changed)


def _read(path: str | Path | None, overrides: Sequence[str]) -> tuple[Config | None, ValueError | None]:
    """Return the given config, or the error if it is valid only together with the saved one."""
    try:
        return load_config(path, overrides), None
    except ValueError as error:
        return None, error


def _over(before: dict[str, Any], path: str | Path | None, overrides: Sequence[str]) -> Config:
    return load_config(path, overrides, base=_tree(before))


def _given_keys(path: str | Path | None, overrides: Sequence[str], known: dict[str, Any]) -> set[str]:
    """Return the keys set by a file and overrides; a section counts as all of its keys, a part of a mapping as its key."""
    keys = set() if path is None else set(flat_keys(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}))
    keys |= {override.partition("=")[0].strip() for override in overrides}
    return {
        key
        for key in known
        if key in keys or any(key.startswith(f"{each}.") or each.startswith(f"{key}.") for each in keys)
    }


def _tree(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[leaf] = value
    return tree
