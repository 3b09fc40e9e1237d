"""The Parquet file of traces: one row per distinct function, checked when it is read.

architecture  string   x86, x86-64, aarch64, python-3.11
binary        string   name of the file
name          string   name of the function, or f_401000
address       uint64   first address of the function
bytes         binary   its code
instructions  int32    number of instructions
undecoded     int32    number of bytes that are no instruction (``.byte`` in the trace)
disassembly   string   the trace
split         string   train or test, the same for all functions of a binary
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from unmask.storage import atomic_file
from unmask.suggestions import nearest

COLUMNS = {
    "architecture": "string", "binary": "string", "name": "string", "address": "uint64", "bytes": "binary",
    "instructions": "int32", "undecoded": "int32", "disassembly": "string", "split": "string",
}  # fmt: skip
SPLITS = ("train", "test")
BUILT_IN_TRACES = ("wheels", "python")  # built-in corpora of traces
_GROUP_CHARACTERS = 2**25  # size of a row group


class TraceRow(NamedTuple):
    """One row of the file; the fields are its columns."""

    architecture: str
    binary: str
    name: str
    address: int
    bytes: bytes
    instructions: int
    undecoded: int
    disassembly: str
    split: str


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([pa.field(name, pa.type_for_alias(kind), nullable=False) for name, kind in COLUMNS.items()])


class TraceWriter:
    """Writer of rows in row groups, see ``write_traces``."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema()
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[TraceRow] = []
        self._characters = 0

    def write(self, rows: Sequence[TraceRow]) -> None:
        """Append rows."""
        for row in rows:
            self._rows.append(row)
            self._characters += len(row.disassembly) + len(row.bytes)
            if self._characters >= _GROUP_CHARACTERS:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(values, kind.type) for values, kind in zip(columns, self._schema, strict=True)]
            self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows, self._characters = [], 0

    def close(self) -> None:
        """Write buffered rows and close the file."""
        self._flush()
        self._file.close()


@contextmanager
def write_traces(path: str | os.PathLike[str]) -> Iterator[TraceWriter]:
    """Open a writer of a file of traces; the file is replaced only if the block succeeds."""
    with atomic_file(path) as temporary:
        writer = TraceWriter(temporary)
        try:
            yield writer
        finally:
            writer.close()


def is_traces(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is Parquet with the columns of traces, whatever their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return {"disassembly", "binary", "split"} <= set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return False


def read_traces(path: str | os.PathLike[str], columns: Sequence[str] = tuple(COLUMNS)) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of traces as dictionaries of ``columns``; one batch is in memory at a time.

    Args:
        path: the Parquet file.
        columns: columns to read.

    Raises:
        ValueError: the file is not Parquet, a column is missing or of another type, or a split is neither train nor
            test.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} is not a Parquet file of traces ({error}). Create one: unmask disassemble PATH -o traces.parquet"
        ) from error
    with file:
        _check(path, file.schema_arrow)
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=list(dict.fromkeys([*columns, "split"]))):
            for row in batch.to_pylist():
                if row["split"] not in SPLITS or None in row.values():
                    raise ValueError(
                        f"{path}, row {number}: a field is empty, or split is {row['split']!r} where train or test was "
                        "expected. Create the file again: unmask disassemble PATH -o traces.parquet"
                    )
                yield row
                number += 1


def _check(path: str | os.PathLike[str], schema: Any) -> None:
    import pyarrow as pa

    for name, kind in COLUMNS.items():
        if name not in schema.names:
            raise ValueError(
                f"{path} has no column '{name}'.{nearest(name, schema.names)} A file of traces has "
                f"{', '.join(COLUMNS)}. Create one with `unmask disassemble PATH -o traces.parquet`, or read another "
                "column as text with `parquet:` before the path and field=…."
            )
        actual = schema.field(name).type
        if pa.types.is_dictionary(actual):
            actual = actual.value_type
        plain = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(actual, actual)
        if plain != pa.type_for_alias(kind):
            raise ValueError(
                f"{path}: column '{name}' holds {actual}, and {kind} was expected. Create the file again, or convert "
                "the column."
            )
