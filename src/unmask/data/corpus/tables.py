"""Tables with a text column: CSV, TSV, Arrow, Parquet. One row is one document; an empty cell is none."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.data.corpus.read_options import ReadOptions
from unmask.data.corpus.readers import as_text, unknown_field
from unmask.data.corpus.row_shapes import row_documents
from unmask.data.corpus.text_stream import Input, open_text
from unmask.data.document import Document


class SeparatedValues:
    """A table in text: a header line, then one row a record; quoted cells may hold line ends.

    The separator is a tab for TSV. For CSV it is the one of comma, semicolon, tab and bar that the header line holds most often.

    Args:
        suffixes: endings of its files.
        separator: one character, or None to read it off the header.
    """

    compressed = True

    def __init__(self, suffixes: tuple[str, ...], separator: str | None, description: str) -> None:
        self.suffixes = suffixes
        self.separator = separator
        self.description = description

    def recognises(self, path: Path) -> bool:
        return True

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        """Yield the text column, row by row.

        Raises:
            ValueError: no header, no such column, a row of another width, or a cell with an open quote; with file and line.
        """
        csv.field_size_limit(sys.maxsize)
        with open_text(source, lines_end="at \\n") as file:
            header = file.readline()
            if not header.strip():
                raise ValueError(
                    f"{source.place} has no header line: its first line names the columns. {options.advice}"
                )
            separator = self.separator or max(",;\t|", key=header.count)
            names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
            if options.row is None and options.field not in names:
                raise ValueError(unknown_field(source.place, options.field, names, options.advice))
            column, before = 0 if options.row is not None else names.index(options.field), 1
            rows = csv.reader(file, delimiter=separator, strict=True)
            while True:
                start = before + rows.line_num + 1
                try:
                    row = next(rows, None)
                except csv.Error as error:
                    raise ValueError(
                        f"{source.place}, line {start}, cannot be read ({error}). Close its quotes, or double a quote inside a cell."
                    ) from error
                if row is None:
                    return
                if not row:
                    continue
                if len(row) != len(names):
                    raise ValueError(
                        f"{source.place}, line {start}, has {len(row)} cells, and the header names {len(names)} columns. Quote cells that hold "
                        f"the separator {separator!r}, or correct the line."
                    )
                if options.row is not None:
                    cells = {name: cell or None for name, cell in zip(names, row, strict=True)}
                    text = options.row(cells, f"{source.place}, line {start}")
                    if text is not None:
                        yield Document(f"{source.name}:{start}", text)
                elif row[column]:
                    yield Document(f"{source.name}:{start}", row[column])


class Arrow:
    """An Arrow IPC file or stream (also Feather): one document a row, from a column, a batch of rows in memory at a time."""

    suffixes: tuple[str, ...] = (".arrow", ".feather", ".ipc")
    compressed = False
    description = "Arrow IPC files and streams, Feather"

    def recognises(self, path: Path) -> bool:
        return True

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        """Yield the text column, row by row.

        Raises:
            ValueError: not an Arrow file, no such column, or a cell that is no text.
        """
        import pyarrow as pa

        with pa.memory_map(str(source.path)) as file:
            try:
                reader: Any = pa.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            except pa.ArrowInvalid:
                try:
                    file.seek(0)
                    reader = pa.ipc.open_stream(file)
                    batches = iter(reader)
                except pa.ArrowInvalid as error:
                    raise ValueError(
                        f"{source.place} is not an Arrow file, or it is damaged ({error}). Fetch or write it again."
                    ) from error
            if options.row is not None:
                yield from row_documents(source, (row for batch in batches for row in batch.to_pylist()), options.row)
                return
            if options.field not in reader.schema.names:
                raise ValueError(unknown_field(source.place, options.field, reader.schema.names, options.advice))
            number = 0
            for batch in batches:
                for value in batch.column(reader.schema.get_field_index(options.field)).to_pylist():
                    if value is not None:
                        where = f"{source.place}, row {number}"
                        yield Document(f"{source.name}:{number}", as_text(value, options.field, where, options.advice))
                    number += 1


class Parquet:
    """One document per row, the text in a column; one batch of rows is in memory at a time. Null yields no document."""

    description = "one row, the text in a column"
    suffixes: tuple[str, ...] = (".parquet", ".pq")
    compressed = False

    def recognises(self, path: Path) -> bool:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(source.path)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{source.place} is not a Parquet file, or it is damaged ({error}). Download or write it again."
            ) from error
        with file:
            columns = file.schema_arrow.names
            groups = range(*(source.extent or (0, file.num_row_groups)))
            number = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
            if options.row is not None:
                used = None if options.row_fields is None else [each for each in columns if each in options.row_fields]
                batches = file.iter_batches(batch_size=1024, row_groups=groups, columns=used)
                rows = (row for batch in batches for row in batch.to_pylist())
                yield from row_documents(source, rows, options.row, number)
                return
            if options.field not in columns:
                raise ValueError(unknown_field(source.place, options.field, columns, options.advice))
            for batch in file.iter_batches(batch_size=1024, row_groups=groups, columns=[options.field]):
                for value in batch.column(0).to_pylist():
                    if value is not None:
                        yield Document(
                            f"{source.name}:{number}",
                            as_text(value, options.field, f"{source.place}, row {number}", options.advice),
                        )
                    number += 1

    def divide(self, source: Input, options: ReadOptions, size: int) -> list[Input]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_metadata(source.path)
        except pa.ArrowInvalid:
            return [source]  # reading explains what is wrong
        bounds, held = [0], 0
        for group in range(metadata.num_row_groups):
            held += metadata.row_group(group).total_byte_size
            if held >= size:
                bounds.append(group + 1)
                held = 0
        if bounds[-1] < metadata.num_row_groups:
            bounds.append(metadata.num_row_groups)
        if len(bounds) <= 2:
            return [source]
        return [replace(source, extent=extent) for extent in itertools.pairwise(bounds)]
