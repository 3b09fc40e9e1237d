"""Parts of a training given as objects: recorded with the run by name and source, and compared when it is resumed."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.launch import is_first_process
from unmask.storage import read_json, write_json

RECORD = "parts.json"


def part_record(kind: str, part: Any) -> dict[str, str]:
    """Return the qualified name of a part, the SHA-256 of its source, and its settings.

    Args:
        kind: the argument, for error messages.
        part: a function, an instance of a class, or the name of a schedule.

    Raises:
        ValueError: a part without source, or a closure, whose source does not determine it.
    """
    if isinstance(part, str):
        return {"name": part, "sha256": hashlib.sha256(part.encode()).hexdigest(), "settings": ""}
    made = part if inspect.isfunction(part) or inspect.isclass(part) else type(part)
    name = f"{made.__module__}.{made.__qualname__}"
    advice = "Define a function or a class in a module or script and pass it: its source is recorded with the run."
    if inspect.isfunction(part) and (part.__name__ == "<lambda>" or part.__closure__):
        what = "a lambda" if part.__name__ == "<lambda>" else "a closure"
        raise ValueError(f"{kind} is {what} ({name}), which its source does not determine. {advice}")
    try:
        source = inspect.getsource(made)
    except (OSError, TypeError) as error:
        raise ValueError(f"The source of {kind} ({name}) cannot be read. {advice}") from error
    described = part if made is part or made.__repr__ is not object.__repr__ else dict(sorted(vars(part).items()))
    settings = "" if made is part else re.sub(r" at 0x[0-9a-f]+", "", repr(described))
    return {"name": name, "sha256": hashlib.sha256(source.encode()).hexdigest(), "settings": settings}


def part_records(parts: Mapping[str, Any]) -> dict[str, dict[str, str] | None]:
    """Return the record of each part; None for a part that is built from the config."""
    return {kind: None if part is None else part_record(kind, part) for kind, part in parts.items()}


def check_parts(run: Path, parts: Mapping[str, dict[str, str] | None], resumed: bool) -> None:
    """Write the record of the parts of a new run, or compare it with that of a resumed one.

    Args:
        run: the run folder.
        parts: argument -> record.
        resumed: whether the run has a checkpoint to resume from.

    Raises:
        ValueError: another part than that of the run.
    """
    now = {kind: part for kind, part in parts.items() if part is not None}
    path = run / RECORD
    if not resumed and is_first_process() and (now or path.is_file()):
        write_json(path, now)
    if not resumed:
        return
    before: dict[str, dict[str, str]] = read_json(path) if path.is_file() else {}
    for kind in parts:
        saved, given = before.get(kind), now.get(kind)
        if saved != given:
            raise ValueError(
                f"The run folder {run} was begun with {kind}={_shown(saved)}, and now {kind}={_shown(given)} was given"
                f"{_difference(saved, given)}. Pass the part of the run to resume it, choose another folder with run=…, or start anew "
                "with train.resume=false."
            )


def _shown(record: dict[str, str] | None) -> str:
    return "None (that of the config)" if record is None else record["name"]


def _difference(saved: dict[str, str] | None, given: dict[str, str] | None) -> str:
    if saved is None or given is None or saved["name"] != given["name"]:
        return ""
    return " with another source" if saved["sha256"] != given["sha256"] else " with other settings"
