"""A corpus in parts that several processes read: consecutive files, or ranges of one large file.

Parts depend on the files alone: not on the number of processes, machines or shards. The documents of all parts, in order,
are those of the source. Files that cannot be read from the middle (compressed ones, sections of text) are a part each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from unmask.data.corpus.sources import Source, documents_of, inputs_of
from unmask.data.corpus.text_stream import Input
from unmask.data.document import Document

PART_BYTES = 2**26


class _OfSource:
    """What a corpus and its parts have from their source."""

    source: Source

    @property
    def path(self) -> str:
        """Path or name of the source."""
        return self.source.path

    @property
    def supervised(self) -> bool:
        """Whether a document is a whole row with an answer."""
        return self.source.supervised


@dataclass(frozen=True)
class CorpusPart(_OfSource):
    """A part of a source.

    Attributes:
        source: the source.
        inputs: its files and ranges; None = all of the source.
        dropped: file of the numbers of documents to leave out (``.npy``); None = none.
    """

    source: Source
    inputs: tuple[Input, ...] | None = None
    dropped: Path | None = None

    @property
    def fingerprint(self) -> str:
        """A digest of the files and ranges, in hexadecimal."""
        facts = [(each.name, each.extent) for each in self.inputs or ()]
        return sha256(repr(facts).encode()).hexdigest()

    def documents(self) -> Iterator[Document]:
        """Yield the documents of this part; a part of several may have none."""
        found = self.source.documents() if self.inputs is None else documents_of(self.source, self.inputs)
        if self.dropped is None:
            yield from found
            return
        left_out = set(np.load(self.dropped).tolist())
        yield from (document for number, document in enumerate(found) if number not in left_out)


@dataclass(frozen=True)
class Corpus(_OfSource):
    """A source and its parts, read like one source."""

    source: Source
    parts: tuple[CorpusPart, ...]

    @classmethod
    def of(cls, source: Source, size: int | None = None) -> Corpus:
        """Divide a source into parts of about ``size`` bytes; None = ``PART_BYTES``."""
        size = PART_BYTES if size is None else size
        groups: list[list[Input]] = []
        held = size
        for each in inputs_of(source, size):
            if held >= size or each.extent is not None:
                groups.append([])
                held = 0
            groups[-1].append(each)
            held += size if each.extent is not None else each.path.stat().st_size
        if len(groups) < 2:
            return cls(source, (CorpusPart(source),))
        return cls(source, tuple(CorpusPart(source, tuple(group)) for group in groups))

    def without(self, dropped: Sequence[Path]) -> Corpus:
        """Return the corpus without some documents: a file of their numbers for each part."""
        parts = (CorpusPart(each.source, each.inputs, path) for each, path in zip(self.parts, dropped, strict=True))
        return Corpus(self.source, tuple(parts))

    def documents(self) -> Iterator[Document]:
        """Yield the documents of all parts, in order.

        Raises:
            ValueError: there is none.
        """
        empty = True
        for part in self.parts:
            for document in part.documents():
                empty = False
                yield document
        if empty:
            raise self.source.is_empty()
