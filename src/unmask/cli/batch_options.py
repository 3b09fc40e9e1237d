"""Options of a batch command: where the results go, and where they are computed.

A command declares them with ``@batch_options`` and receives one ``BatchOptions``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from unmask.cli.model_options import options_of

_BATCH = {"rich_help_panel": "Many rows (--out FOLDER)"}


@dataclass(frozen=True)
class BatchOptions:
    """Size of the parts, and where they are computed; each option is described by its help."""

    part_rows: Annotated[
        int, typer.Option("--part-rows", help="Rows of --input in each part of an output folder.", **_BATCH)
    ] = 1024
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="processes (this one), or ray: model copies on a Ray cluster, with all paths on shared storage.",
            **_BATCH,
        ),
    ] = "processes"
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="With --engine ray: number of model copies; by default one per GPU of the cluster, else per 4 cores.",
            **_BATCH,
        ),
    ] = None


DEFAULT_BATCH = BatchOptions()


def batch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of ``BatchOptions`` to a command, in place of its parameter ``batch``."""
    return options_of(BatchOptions, "batch", command)
