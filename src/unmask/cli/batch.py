"""``--out FOLDER`` of the commands that work on many rows: run the work, or finish it, and say how much was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from unmask.cli.batch_options import BatchOptions
from unmask.cli.batch_work import BatchWork


def run_batch(work: BatchWork, out: Path, options: BatchOptions, as_json: bool) -> None:
    """Do the work part by part into a folder, or finish it, and print how much was done.

    Args:
        work: the work.
        out: folder of the parts.
        options: size of the parts, and where they are computed.
        as_json: print JSON.

    Raises:
        ValueError: as of ``run_in_parts``, or an unknown engine.
    """
    from unmask.cli.ray_batch import write_parts_on_ray
    from unmask.cli.screen import counting, print_json, show
    from unmask.data.engines import ENGINES
    from unmask.text.embedding_job import model_settings
    from unmask.text.row_parts import run_in_parts

    ENGINES.choose(options.engine)
    loaded = work.chosen.load()
    settings = model_settings(loaded) | {"input": describe_input(work.source), "options": work.settings()}
    settings = json.loads(json.dumps(settings, default=str))
    with counting(work.verb) as progress:
        rows, found = run_in_parts(
            work.records(),
            out,
            settings,
            partial(work.rows, loaded),
            write=work.write,
            suffix=work.suffix,
            part_rows=options.part_rows,
            progress=progress,
            elsewhere=None if options.engine == "processes" else partial(write_parts_on_ray, work, options),
        )
    if as_json:
        print_json({"output": str(out), "rows": rows, "rows_found_finished": found})
        return
    resumed = f" ({found:,} of them were finished by an earlier run)" if found else ""
    show(f"{out}: {rows:,} rows{resumed}")


def describe_input(source: Path) -> dict[str, Any]:
    """Return what identifies an input: size and time of a file, or the fingerprint of a folder or dataset."""
    if source.is_file():
        facts = source.stat()
        return {"path": str(source), "bytes": facts.st_size, "changed": facts.st_mtime_ns}
    from unmask.data.corpus.sources import Source
    from unmask.data.store.token_store import MANIFEST
    from unmask.storage import digest

    if (source / MANIFEST).is_file():
        return {"path": str(source), "sha256": digest(source / MANIFEST)}
    return {"path": str(source), "fingerprint": Source.parse(str(source), unit="line").fingerprint()}


def require_only_input(out: Path, source: Path | None, others: Mapping[str, object]) -> Path:
    """Return the input of a batch command.

    Raises:
        ValueError: no ``--input``, or options of single texts.
    """
    given = [name for name, value in others.items() if value]
    if source is None or given:
        what = f"{', '.join(given)} cannot be used with it" if given else "there is none"
        raise ValueError(f"--out {out} writes the results of the rows of --input FILE, part by part, and {what}.")
    return source
