"""Files of a task: training and validation rows as JSON lines, and a config that trains on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unmask.storage import write_text
from unmask.tasks.catalogue import Row, row_draw

HELD_OUT = 0.05
LEAST_HELD_OUT = 64


def write_task(task: Any, folder: Path, count: int, seed: int, source: Path | None = None) -> Path:
    """Write ``train.jsonl``, ``valid.jsonl`` and ``config.yaml``, and return the path of the config.

    Args:
        task: the task.
        folder: destination.
        count: number of training rows.
        seed: random seed of the rows.
        source: published file to take the rows from, in an order that depends on the seed; None = generate.

    Raises:
        ValueError: the file has fewer rows.
    """
    held_out = max(LEAST_HELD_OUT, min(1000, round(HELD_OUT * count)))
    if source is None:
        train, valid = task.generate(count, seed), task.generate(held_out, seed + 1_000_003)
    else:
        rows = task.read(source)
        row_draw("order", seed, 0).shuffle(rows)
        if len(rows) <= held_out:
            raise ValueError(
                f"{source} has {len(rows)} rows, and {held_out} of them are held out. Give a larger file, or --rows 100."
            )
        valid, train = rows[:held_out], rows[held_out : held_out + count]
    known = {json.dumps(row, sort_keys=True) for row in valid}
    train = [row for row in train if json.dumps(row, sort_keys=True) not in known]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("valid", valid)):
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part))
    config = task.config
    config["data"] = {"source": f"{folder}/train.jsonl", "valid_source": f"{folder}/valid.jsonl", **config["data"]}
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return folder / "config.yaml"


def read_rows(task: Any, path: str | None) -> list[Row]:
    """Return the rows of a file that :func:`write_task` wrote, or of one in the published format of the task.

    Raises:
        ValueError: no file, or one without rows.
    """
    if path is None or not Path(path).is_file():
        raise ValueError(f"There are no rows to score at {path}. Name a file of them: --source FILE.")
    rows: list[Mapping[str, str]]
    if Path(path).suffix == ".jsonl":
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        rows = task.read(Path(path))
    if not rows:
        raise ValueError(f"{path} holds no rows. Write some with `unmask task NAME --out FOLDER`.")
    return rows
