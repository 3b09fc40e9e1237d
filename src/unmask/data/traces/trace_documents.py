"""Instruction traces as documents, one per function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unmask.data.document import Document


def read_traces(path: str | Path) -> Iterator[Document]:
    """Yield the traces of a file written by ``unmask disassemble``, each on the side of its binary in the split.

    Raises:
        ValueError: the file is not a file of traces.
    """
    from unmask.data.traces import table

    for row in table.read_traces(path, ("binary", "name", "disassembly")):
        yield Document(f"{row['binary']}:{row['name']}", row["disassembly"], held_out=row["split"] == "test")


def built_in_traces(name: str) -> Iterator[Document]:
    """Yield the traces of a built-in corpus, ``wheels`` or ``python``."""
    from unmask.data.traces.corpus import built_in_rows

    for row in built_in_rows(name):
        yield Document(f"{row.binary}:{row.name}", row.disassembly, held_out=row.split == "test")
