"""Files of vectors: Parquet, NPY or JSON lines, written from finished parts.

Parts are Parquet files of many rows in ``NAME.parts`` beside the output (``unmask.text.row_parts``). The last part makes the output, in one
atomic step, and the folder is removed. An output without a suffix is a folder of parts itself.

    .parquet   row, place, carried fields, vector (for single tokens: tokens, vectors)
    .jsonl     the same, one object a line
    .npy       float32 [N, D], and NAME.rows.jsonl with the other columns; single tokens are [T, D] with start and stop

A text without tokens keeps its row: its vector is null, in ``.npy`` NaN.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.registry import Registry
from unmask.storage import atomic_file


@dataclass(frozen=True)
class Record:
    """A text to embed.

    Attributes:
        place: where it came from, such as ``texts.jsonl:3``.
        text: the text.
        fields: further fields of its row, carried to the output.
    """

    place: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddedRow:
    """A record with its vectors.

    Attributes:
        row: its number in the input, from 0.
        place, fields: as of its :class:`Record`.
        vectors: float32 ``[l, D]``; one vector of a pooled text, none without tokens.
        tokens: the tokens of the vectors; None for a pooled text.
    """

    row: int
    place: str
    fields: Mapping[str, Any]
    vectors: NDArray[np.float32]
    tokens: Sequence[str] | None = None

    @property
    def head(self) -> dict[str, Any]:
        """All columns but the vectors."""
        named = {"row": self.row, "place": self.place, **self.fields}
        return named if self.tokens is None else named | {"tokens": list(self.tokens)}


class VectorParts:
    """The finished parts of a file of vectors, in the folder ``NAME.parts`` beside it (``unmask.text.row_parts``).

    Args:
        output: the file to write in the end.

    Raises:
        ValueError: the output exists, or its suffix is unknown.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.write = WRITERS.choose(output.suffix)
        self.folder: Path = output.with_name(output.name + ".parts")
        if output.exists():
            raise ValueError(
                f"{output} exists already, and nothing is overwritten. Delete it, or give another name with --output."
            )

    @property
    def parts(self) -> list[Path]:
        """The finished parts, in order."""
        return sorted(self.folder.glob("part-*.parquet"))

    def read(self) -> Iterator[list[EmbeddedRow]]:
        """Yield the rows of every part."""
        import pyarrow.parquet as pq

        for part in self.parts:
            table = pq.read_table(part).to_pydict()
            yield [
                EmbeddedRow(
                    row,
                    place,
                    json.loads(fields),
                    np.array(values, np.float32).reshape(count, -1 if count else 0),
                    tokens,
                )
                for row, place, fields, tokens, count, values in zip(*table.values(), strict=True)
            ]

    def finish(self) -> int:
        """Write the output from all parts, remove the parts, and return the number of rows.

        Raises:
            ValueError: the number of written rows differs from that of the parts.
        """
        import pyarrow.parquet as pq

        expected = sum(pq.read_metadata(part).num_rows for part in self.parts)
        written = self.write(self, self.output)
        if written != expected:
            self.output.unlink()
            raise ValueError(f"{self.output} has {written} rows, and {expected} were embedded. Repeat the command.")
        shutil.rmtree(self.folder)
        return written


def write_part(path: Path, rows: Sequence[EmbeddedRow]) -> None:
    """Write the rows of one part of a file, in a form that holds any fields and vectors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "row": pa.array([row.row for row in rows], pa.int64()),
        "place": pa.array([row.place for row in rows], pa.string()),
        "fields": pa.array([json.dumps(dict(row.fields)) for row in rows], pa.string()),
        "tokens": pa.array([row.tokens for row in rows], pa.list_(pa.string())),
        "count": pa.array([len(row.vectors) for row in rows], pa.int64()),
        "values": pa.array([row.vectors.ravel() for row in rows], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path)


def write_rows(path: Path, rows: Sequence[EmbeddedRow]) -> None:
    """Write rows as one Parquet file with the columns of an output, a part of a folder of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _types([rows])
    single = any(row.tokens is not None for row in rows)
    pq.write_table(pa.Table.from_pylist(_objects(rows, types, single), _schema(types, single)), path)


def _types(parts: Iterable[Sequence[EmbeddedRow]]) -> dict[str, Any]:
    """Return the Arrow type of every carried field; fields of mixed or nested types become JSON text."""
    import pyarrow as pa

    seen: dict[str, set[type]] = {}
    for rows in parts:
        for row in rows:
            for name, value in row.fields.items():
                seen.setdefault(name, set()).update([type(value)] if value is not None else [])
    known = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return {name: known.get(next(iter(kinds), str)) if len(kinds) < 2 else None for name, kinds in seen.items()}


def _schema(types: Mapping[str, Any], single: bool) -> Any:
    """Return the Arrow schema of an output with carried fields of some types."""
    import pyarrow as pa

    vector = pa.list_(pa.float32())
    last = [("tokens", pa.list_(pa.string())), ("vectors", pa.list_(vector))] if single else [("vector", vector)]
    carried = [(name, kind or pa.string()) for name, kind in types.items()]
    return pa.schema([("row", pa.int64()), ("place", pa.string()), *carried, *last])


def _objects(rows: Sequence[EmbeddedRow], types: Mapping[str, Any], single: bool) -> list[dict[str, Any]]:
    return [
        row.head
        | {name: json.dumps(row.fields.get(name)) for name, kind in types.items() if kind is None}
        | ({"vectors": list(row.vectors)} if single else {"vector": row.vectors[0] if len(row.vectors) else None})
        for row in rows
    ]


def write_parquet(parts: VectorParts, output: Path) -> int:
    """Write all parts as one Parquet file, a row group each; return the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types, single = _types(parts.read()), _single(parts)
    schema = _schema(types, single)
    written = 0
    with atomic_file(output) as temporary, pq.ParquetWriter(temporary, schema) as file:
        for rows in parts.read():
            file.write_table(pa.Table.from_pylist(_objects(rows, types, single), schema))
            written += len(rows)
    return written


def write_json_lines(parts: VectorParts, output: Path) -> int:
    """Write all parts as JSON lines; return the number of rows."""
    single, written = _single(parts), 0
    with atomic_file(output) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for rows in parts.read():
            for row in rows:
                vectors = [[float(f"{number:.9g}") for number in vector] for vector in row.vectors]
                named = {"vectors": vectors} if single else {"vector": vectors[0] if vectors else None}
                file.write(json.dumps(row.head | named, ensure_ascii=False) + "\n")
            written += len(rows)
    return written


def write_npy(parts: VectorParts, output: Path) -> int:
    """Write all vectors as one array, and the other columns beside it; return the number of rows."""
    single, width, total = _single(parts), 0, 0
    for rows in parts.read():
        total += sum(len(row.vectors) if single else 1 for row in rows)
        width = max([width, *(row.vectors.shape[1] for row in rows)])
    written = start = 0
    beside = output.with_suffix(".rows.jsonl")
    with atomic_file(output) as temporary, atomic_file(beside) as other:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=(total, width))
        with open(other, "w", encoding="utf-8") as file:
            for rows in parts.read():
                for row in rows:
                    vectors = row.vectors if single or len(row.vectors) else np.full((1, width), np.nan, np.float32)
                    stop = start + len(vectors)
                    array[start:stop] = vectors.reshape(-1, width)
                    file.write(
                        json.dumps(row.head | ({"start": start, "stop": stop} if single else {}), ensure_ascii=False)
                        + "\n"
                    )
                    start = stop
                written += len(rows)
        array.flush()
        del array
    return written


def _single(parts: VectorParts) -> bool:
    """Tell whether the vectors are those of single tokens."""
    return any(row.tokens is not None for row in next(parts.read(), []))


WRITERS: Registry[Callable[[VectorParts, Path], int]] = Registry(
    "suffix of a file of vectors",
    {
        ".parquet": (write_parquet, "columns with a list of numbers"),
        ".npy": (write_npy, "one array, with the other columns in `NAME.rows.jsonl`"),
        ".jsonl": (write_json_lines, "one JSON object a line"),
    },
)
