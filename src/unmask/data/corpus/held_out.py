"""The validation split: a fraction of the bytes, chosen by a keyed hash of each text.

The side of a document is a deterministic function of ``(seed, text)`` and of three numbers per corpus: a cut, a largest
size (see ``byte_fraction``), and a length beyond which documents are cut into pieces first. Documents are cut only if
the fraction cannot be met otherwise. Equal texts are on the same side, whatever the order of documents and the number
of workers. A corpus with its own split, such as traces, keeps it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

from unmask.data.corpus.byte_fraction import ANY_SIZE, ByteSketch, Choice
from unmask.data.corpus.sections import cut
from unmask.data.document import Document

SHORTEST_PIECE = 1024  # characters; a shorter document is never cut
PIECES = 16  # least number of pieces on the smaller side, if documents are cut


class TextSource(Protocol):
    """Documents to divide: a source, a corpus in parts, or one part.

    Examples:
        >>> from unmask.data.corpus.sources import Source
        >>> source: TextSource = Source.parse("python-docs")
        >>> source.supervised
        False
    """

    @property
    def path(self) -> str:
        """Path or name, for messages."""
        ...

    @property
    def supervised(self) -> bool:
        """Whether a document is a whole row with an answer, which is never cut."""
        ...

    def documents(self) -> Iterator[Document]:
        """Yield the documents, always in the same order."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """The split of one source; ``training`` and ``validation`` partition its documents, in the source's order.

    Attributes:
        source: the corpus.
        seed: seed of the hash.
        fraction: target fraction of the bytes.
        choice: the held-out documents; see ``byte_fraction``.
        piece: maximum length in characters; longer documents are cut into pieces. None cuts no document.
    """

    source: TextSource
    seed: int
    fraction: float
    choice: Choice
    piece: int | None = None

    @classmethod
    def find(
        cls, source: TextSource, fraction: float, seed: int, measure: Callable[[int | None], ByteSketch] | None = None
    ) -> HeldOut:
        """Choose the held-out documents, reading the corpus once, or twice if its documents are too large.

        Args:
            source: the corpus.
            fraction: fraction of the bytes to hold out.
            seed: seed of the hash.
            measure: the function that reads the corpus: largest length of a piece -> sketch; None = :func:`measured`.

        Raises:
            ValueError: the source is a single document too short to be cut, so nothing can be held out.
        """
        divided = _division(source)
        if divided is not None:
            return cls(source, seed, fraction, divided)
        read = measure or partial(measured, source, fraction, seed)
        sketch = read(None)
        whole = sketch.choose()
        if whole is not None and whole.is_near(fraction):
            return cls(source, seed, fraction, whole)
        piece = max(SHORTEST_PIECE, int(min(fraction, 1 - fraction) * sketch.total / PIECES))
        if sketch.largest > piece and not source.supervised:  # a row is never cut
            pieces = read(piece).choose()
            if pieces is not None and (
                whole is None or pieces.is_near(fraction) or pieces.error(fraction) < whole.error(fraction) / 2
            ):
                return cls(source, seed, fraction, pieces, piece)
        if whole is None:
            raise ValueError(
                f"'{source.path}' is one single document, so none can be held out for validation. For a text file "
                "choose smaller documents, paragraphs or lines (--unit line; in a config data.unit=line), or give a "
                "separate validation corpus (valid_source)."
            )
        return cls(source, seed, fraction, whole)

    def as_dict(self) -> dict[str, Any]:
        """Return the contents of ``split.json``; ``from_dict`` restores the split without reading the corpus."""
        return {"fraction": self.fraction, "choice": list(self.choice), "piece": self.piece}

    @classmethod
    def from_dict(cls, source: TextSource, seed: int, saved: dict[str, Any]) -> HeldOut:
        """Restore a split saved by ``as_dict``."""
        return cls(source, seed, saved["fraction"], Choice(*saved["choice"]), saved["piece"])

    def warn_if_far(self) -> None:
        """Warn if the held-out fraction is far from its target."""
        if not (_is_divided(self.choice) or self.choice.is_near(self.fraction)):
            warnings.warn(
                f"{self.choice.fraction:.2%} of the bytes of '{self.source.path}' are held out instead of "
                f"{self.fraction:.2%}: the corpus has too few documents for a better split. Give more or smaller "
                "documents (--unit line; in a config data.unit=line), another fraction, or a separate validation "
                "corpus (valid_source).",
                stacklevel=3,
            )

    def training(self) -> Iterator[Document]:
        """Yield the training documents."""
        return (document for document in _documents(self.source, self.piece) if not self._holds(document))

    def validation(self) -> Iterator[Document]:
        """Yield the held-out documents."""
        return (document for document in _documents(self.source, self.piece) if self._holds(document))

    def _holds(self, document: Document) -> bool:
        if document.held_out is not None:
            return document.held_out
        data = document.text.encode()
        return self.choice.holds(_position(self.seed, data), len(data))


_DIVIDED = Choice(0, ANY_SIZE, 0.0)


def _is_divided(choice: Choice) -> bool:
    return choice == _DIVIDED


def _division(source: TextSource) -> Choice | None:
    """Return ``_DIVIDED`` for a corpus with its own split, None for a corpus without.

    Raises:
        ValueError: one side of the corpus's own split is empty.
    """
    sides = set()
    for document in source.documents():
        if document.held_out is None:
            return None
        sides.add(document.held_out)
        if len(sides) == 2:
            return _DIVIDED
    held_out = True in sides
    raise ValueError(
        f"All traces of '{source.path}' are on one side of its split ({'test' if held_out else 'train'}), so there is "
        f"nothing to {'train on' if held_out else 'validate with'}. Disassemble several binaries, or give a separate "
        "valid_source."
    )


def measured(source: TextSource, fraction: float, seed: int, piece: int | None) -> ByteSketch:
    """Return the bytes of a corpus by position of its documents, those longer than ``piece`` characters cut into pieces."""
    sketch = ByteSketch(fraction)
    for document in _documents(source, piece):
        data = document.text.encode()
        sketch.add(_position(seed, data), len(data))
    return sketch


def _documents(source: TextSource, piece: int | None) -> Iterator[Document]:
    for document in source.documents():
        if piece is None or len(document.text) <= piece or document.held_out is not None:
            yield document
        else:
            yield from (Document(f"{document.name}[{n}]", part) for n, part in enumerate(cut(document.text, piece)))


def _position(seed: int, data: bytes) -> int:
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "little")
