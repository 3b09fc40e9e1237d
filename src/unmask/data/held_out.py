"""Which documents are held out: a pure function of ``(seed, text)``, or what the corpus itself says.

Every text has a position in ``[0, 2**64)``, a keyed hash of it. Documents below the cut are held out. The cut is
``fraction * 2**64`` unless that would leave one side without documents; then it moves just far enough to give
that side one distinct text. A corpus that is divided already (traces, by binary) keeps its division.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from unmask.data.readers import Document
from unmask.data.sources import Source


@dataclass(frozen=True)
class HeldOut:
    """The split of one source. ``training`` and ``validation`` partition its documents, in the source's order."""

    source: Source
    seed: int
    cut: int

    @classmethod
    def find(cls, source: Source, fraction: float, seed: int) -> HeldOut:
        """Settle the cut, reading only until both sides are known to have a document.

        Raises:
            ValueError: the source holds one distinct document, so nothing can be held out.
        """
        cut = int(fraction * 2**64)
        lowest, highest = 2**64, -1
        for document in source.documents():
            position = _position_of(document, seed)
            lowest, highest = min(lowest, position), max(highest, position)
            if lowest < cut <= highest:
                return cls(source, seed, cut)
        if lowest == highest and document.held_out is not None:
            raise ValueError(
                f"All traces of '{source.path}' are on one side of its split ({'test' if document.held_out else 'train'}), so there is nothing "
                f"to {'train on' if document.held_out else 'validate with'}. Disassemble several binaries, or give a separate valid_source."
            )
        if lowest == highest:
            raise ValueError(
                f"'{source.path}' is one single document, so none can be held out for validation. For a text file choose smaller "
                "documents, paragraphs or lines (--unit line; in a config data.unit=line), or give held-out text of its own (valid_source)."
            )
        return cls(source, seed, lowest + 1 if lowest >= cut else highest)

    def training(self) -> Iterator[Document]:
        return (document for document in self.source.documents() if not self._holds(document))

    def validation(self) -> Iterator[Document]:
        return (document for document in self.source.documents() if self._holds(document))

    def _holds(self, document: Document) -> bool:
        return _position_of(document, self.seed) < self.cut


def _position_of(document: Document, seed: int) -> int:
    """Where a document is in ``[0, 2**64)``: at one end or the other if the corpus is divided already."""
    if document.held_out is not None:
        return 0 if document.held_out else 2**64 - 1
    return _position(seed, document.text)


def _position(seed: int, text: str) -> int:
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little")
