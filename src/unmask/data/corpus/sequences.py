"""Biological sequences: FASTA and aligned A3M or A2M. One record is one document; its header is the document's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from unmask.data.corpus.read_options import ReadOptions
from unmask.data.corpus.text_stream import Input, open_text
from unmask.data.document import Document

_INSERTS = re.compile(r"[a-z.]+")


class Fasta:
    """Records of a header line ``>name description`` and the sequence in the lines that follow, white space removed.

    Args:
        suffixes: endings of its files.
        aligned: A3M or A2M: lower-case letters and dots are inserts, which ``ReadOptions.inserts="drop"`` leaves out. All rows then
            have the columns of the first one.
    """

    compressed = True

    def __init__(self, suffixes: tuple[str, ...], aligned: bool, description: str) -> None:
        self.suffixes = suffixes
        self.aligned = aligned
        self.description = description

    def recognises(self, path: Path) -> bool:
        return True

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        """Yield the records in order.

        Raises:
            ValueError: a sequence without a header, or, without inserts, an aligned row of another width; with file and line.
        """
        drop, width = self.aligned and options.inserts == "drop", 0
        with open_text(source) as file:
            name: str | None = None
            start, parts = 0, list[str]()
            for line_number, line in enumerate(_with_end(file), start=1):
                if line is not None and not line.startswith(">"):
                    if name is None and line.strip() and not line.startswith(";"):
                        raise ValueError(
                            f"{source.place}, line {line_number}, is a sequence without a header: a record begins with a line such as '>name'. "
                            "For one sequence a line, name the file .txt and give unit=line."
                        )
                    if name is not None and not line.startswith(";"):
                        parts.append("".join(line.split()))
                    continue
                if name is not None:
                    text = "".join(parts)
                    text = _INSERTS.sub("", text) if drop else text
                    width = width or len(text)
                    if drop and len(text) != width:
                        raise ValueError(
                            f"{source.place}, line {start}: '{name}' has {len(text)} aligned columns, and the first record has {width}. An alignment has "
                            "one width without its inserts: correct the record, or give inserts=keep."
                        )
                    if text:
                        yield Document(f"{source.name}:{name or start}", text)
                if line is not None:
                    name, start, parts = line[1:].strip(), line_number, []


def _with_end(lines: Iterator[str]) -> Iterator[str | None]:
    """The lines, then None, so that the last record ends like the others."""
    yield from lines
    yield None
