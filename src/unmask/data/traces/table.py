"""The file of traces: Parquet, one row per distinct function, checked when it is read.

architecture  string   x86, x86-64, aarch64, python-3.11
binary        string   the file it is from
name          string   of the function, or f_401000
address       uint64   where it begins
bytes         binary   its code
instructions  int32    how many there are
undecoded     int32    how many of its bytes are no instruction (``.byte`` in the trace)
disassembly   string   the trace
split         string   train or test; a binary is on one side as a whole
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
BUILT_IN_TRACES = ("wheels", "python")  # corpora of traces that need no file
_GROUP_CHARACTERS = 2**25  # of traces in a row group


class TraceRow(NamedTuple):
    """One row; the fields are the columns of the file."""

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
    """Takes rows and puts them into row groups; see ``write_traces``."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema()
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[TraceRow] = []
        self._characters = 0

    def write(self, rows: Sequence[TraceRow]) -> None:
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
        self._flush()
        self._file.close()


@contextmanager
def write_traces(path: str | os.PathLike[str]) -> Iterator[TraceWriter]:
    """Write a file of traces; it is there when the block ends well, and as before when it does not."""
    with atomic_file(path) as temporary:
        writer = TraceWriter(temporary)
        try:
            yield writer
        finally:
            writer.close()


def is_traces(path: str | os.PathLike[str]) -> bool:
    """Whether a Parquet file has the columns of traces (of whatever type); False for what is no Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return {"disassembly", "binary", "split"} <= set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return False


def read_traces(path: str | os.PathLike[str], columns: Sequence[str] = tuple(COLUMNS)) -> Iterator[dict[str, Any]]:
    """The rows of a file of traces as dictionaries of ``columns``, a batch in memory at a time.

    Raises:
        ValueError: it is no file of traces: no Parquet, a column missing or of another type, or another split.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} is not a Parquet file of traces ({error}). Make one: unmask disassemble PATH -o traces.parquet"
        ) from error
    with file:
        _check(path, file.schema_arrow)
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=list(dict.fromkeys([*columns, "split"]))):
            for row in batch.to_pylist():
                if row["split"] not in SPLITS or None in row.values():
                    raise ValueError(
                        f"{path}, row {number}: a field is empty, or split is {row['split']!r} where train or test was expected. "
                        "Make the file anew: unmask disassemble PATH -o traces.parquet"
                    )
                yield row
                number += 1


def _check(path: str | os.PathLike[str], schema: Any) -> None:
    import pyarrow as pa

    for name, kind in COLUMNS.items():
        if name not in schema.names:
            raise ValueError(
                f"{path} has no column '{name}'.{nearest(name, schema.names)} A file of traces has {', '.join(COLUMNS)}. "
                "Make one with `unmask disassemble PATH -o traces.parquet`, or read another column as text with `parquet:` "
                "before the path and field=…."
            )
        found = schema.field(name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        same = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(found, found)
        if same != pa.type_for_alias(kind):
            raise ValueError(
                f"{path}: column '{name}' holds {found}, and {kind} was expected. Make the file anew, or convert the column."
            )
