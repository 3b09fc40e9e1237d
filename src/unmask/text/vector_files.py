"""Files of vectors: Parquet, NPY or JSON lines, written from finished parts.

A part is a Parquet file of many rows, written in one atomic step into ``NAME.parts`` beside the output. After an interruption the rows
of finished parts are skipped; the last part makes the output, in one atomic step, and the folder is removed.

    .parquet   row, place, carried fields, vector (for single tokens: tokens, vectors)
    .jsonl     the same, one object a line
    .npy       float32 [N, D], and NAME.rows.jsonl with the other columns; single tokens are [T, D] with start and stop

A text without tokens keeps its row: its vector is null, in ``.npy`` NaN.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.registry import Registry
from unmask.storage import atomic_file, read_json, sweep_temporaries, write_json

SETTINGS = "settings.json"


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


class PartsFolder:
    """The finished parts of an output file.

    Args:
        output: the file to write in the end.
        settings: everything that determines the vectors, as a JSON object.

    Raises:
        ValueError: the output exists, its suffix is unknown, or its parts were begun with other settings.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.output = output
        self.write = WRITERS.choose(output.suffix)
        self.folder = output.with_name(output.name + ".parts")
        if output.exists():
            raise ValueError(
                f"{output} exists already, and nothing is overwritten. Delete it, or give another name with --output."
            )
        saved = self.folder / SETTINGS
        wanted = json.loads(json.dumps(settings))
        if not saved.is_file() or not self.parts:
            write_json(saved, wanted)
        elif (begun := read_json(saved)) != wanted:
            changed = [key for key in {**begun, **wanted} if begun.get(key) != wanted.get(key)]
            raise ValueError(
                f"{self.folder} holds part of the output of another command; different: {', '.join(changed)}. Repeat that command to "
                "finish it, give another --output, or delete the folder."
            )
        sweep_temporaries(self.folder)

    @property
    def parts(self) -> list[Path]:
        """The finished parts, in order."""
        return sorted(self.folder.glob("*.parquet"))

    @property
    def rows(self) -> int:
        """Number of rows in all finished parts."""
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(part).num_rows for part in self.parts)

    def add(self, rows: Sequence[EmbeddedRow]) -> None:
        """Write one part."""
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
        with atomic_file(self.folder / f"{len(self.parts):08d}.parquet") as temporary:
            pq.write_table(pa.table(columns), temporary)

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
        expected = self.rows
        written = self.write(self, self.output)
        if written != expected:
            self.output.unlink()
            raise ValueError(f"{self.output} has {written} rows, and {expected} were embedded. Repeat the command.")
        shutil.rmtree(self.folder)
        return written


def _types(parts: PartsFolder) -> dict[str, Any]:
    """Return the Arrow type of every carried field; fields of mixed or nested types become JSON text."""
    import pyarrow as pa

    seen: dict[str, set[type]] = {}
    for rows in parts.read():
        for row in rows:
            for name, value in row.fields.items():
                seen.setdefault(name, set()).update([type(value)] if value is not None else [])
    known = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return {name: known.get(next(iter(kinds), str)) if len(kinds) < 2 else None for name, kinds in seen.items()}


def write_parquet(parts: PartsFolder, output: Path) -> int:
    """Write all parts as one Parquet file, a row group each; return the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types, single = _types(parts), _single(parts)
    vector = pa.list_(pa.float32())
    last = [("tokens", pa.list_(pa.string())), ("vectors", pa.list_(vector))] if single else [("vector", vector)]
    carried = [(name, kind or pa.string()) for name, kind in types.items()]
    schema = pa.schema([("row", pa.int64()), ("place", pa.string()), *carried, *last])
    written = 0
    with atomic_file(output) as temporary, pq.ParquetWriter(temporary, schema) as file:
        for rows in parts.read():
            objects = [
                row.head
                | {name: json.dumps(row.fields.get(name)) for name, kind in types.items() if kind is None}
                | (
                    {"vectors": list(row.vectors)}
                    if single
                    else {"vector": row.vectors[0] if len(row.vectors) else None}
                )
                for row in rows
            ]
            file.write_table(pa.Table.from_pylist(objects, schema))
            written += len(rows)
    return written


def write_json_lines(parts: PartsFolder, output: Path) -> int:
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


def write_npy(parts: PartsFolder, output: Path) -> int:
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


def _single(parts: PartsFolder) -> bool:
    """Tell whether the vectors are those of single tokens."""
    return any(row.tokens is not None for row in next(parts.read(), []))


WRITERS: Registry[Callable[[PartsFolder, Path], int]] = Registry(
    "suffix of a file of vectors",
    {
        ".parquet": (write_parquet, "columns with a list of numbers"),
        ".npy": (write_npy, "one array, with the other columns in `NAME.rows.jsonl`"),
        ".jsonl": (write_json_lines, "one JSON object a line"),
    },
)
