"""Which documents are held out: a share of the bytes, chosen by a keyed hash of each text.

The side of a document is a pure function of ``(seed, text)`` and of three numbers that fit the corpus, see ``byte_share``:
a cut, a largest size, and a length beyond which documents are cut into pieces first. Documents are cut only where
the share cannot be met with whole ones. Equal texts are on one side, and neither the order of the
documents nor the number of workers changes it. A corpus that is divided already (traces, by binary) keeps its division.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from unmask.data.corpus.byte_share import ANY_SIZE, ByteSketch, Choice
from unmask.data.corpus.sections import cut
from unmask.data.corpus.sources import Source
from unmask.data.document import Document

SHORTEST_PIECE = 1024  # characters; a shorter document is never cut
PIECES = 16  # the smaller side is at least so many pieces long where documents are cut


@dataclass(frozen=True)
class HeldOut:
    """The split of one source. ``training`` and ``validation`` partition its documents, in the source's order.

    Attributes:
        source: the corpus.
        seed: of the hash.
        fraction: share of the bytes that was asked for.
        choice: what is held out; see ``byte_share``.
        piece: characters; longer documents are cut into pieces of at most so many. None cuts none.
    """

    source: Source
    seed: int
    fraction: float
    choice: Choice
    piece: int | None = None

    @classmethod
    def find(cls, source: Source, fraction: float, seed: int) -> HeldOut:
        """Settle what is held out, reading the corpus once, or twice where its documents are too large.

        Raises:
            ValueError: the source holds one distinct document that is too short to be cut, so nothing can be held out.
        """
        divided = _division(source)
        if divided is not None:
            return cls(source, seed, fraction, divided)
        whole, sketch = _measure(source, fraction, seed, None)
        if whole is not None and whole.is_near(fraction):
            return cls(source, seed, fraction, whole)
        piece = max(SHORTEST_PIECE, int(min(fraction, 1 - fraction) * sketch.total / PIECES))
        if sketch.largest > piece:
            pieces, _ = _measure(source, fraction, seed, piece)
            if pieces is not None and (
                whole is None or pieces.is_near(fraction) or pieces.error(fraction) < whole.error(fraction) / 2
            ):
                return cls(source, seed, fraction, pieces, piece)
        if whole is None:
            raise ValueError(
                f"'{source.path}' is one single document, so none can be held out for validation. For a text file choose smaller "
                "documents, paragraphs or lines (--unit line; in a config data.unit=line), or give held-out text of its own (valid_source)."
            )
        return cls(source, seed, fraction, whole)

    def as_dict(self) -> dict[str, Any]:
        """What ``from_dict`` needs to make the same split without reading the corpus."""
        return {"fraction": self.fraction, "choice": list(self.choice), "piece": self.piece}

    @classmethod
    def from_dict(cls, source: Source, seed: int, saved: dict[str, Any]) -> HeldOut:
        """The split that ``as_dict`` saved."""
        return cls(source, seed, saved["fraction"], Choice(*saved["choice"]), saved["piece"])

    def warn_if_far(self) -> None:
        """Warn, with both figures, where the share held out is not near the one asked for."""
        if not (_is_divided(self.choice) or self.choice.is_near(self.fraction)):
            warnings.warn(
                f"{self.choice.share:.2%} of the bytes of '{self.source.path}' are held out, where {self.fraction:.2%} was asked for: its "
                "documents are too few for a nearer share. Give more or smaller documents (--unit line; in a config data.unit=line), "
                "another share, or held-out text of its own (valid_source).",
                stacklevel=3,
            )

    def training(self) -> Iterator[Document]:
        return (document for document in _documents(self.source, self.piece) if not self._holds(document))

    def validation(self) -> Iterator[Document]:
        return (document for document in _documents(self.source, self.piece) if self._holds(document))

    def _holds(self, document: Document) -> bool:
        if document.held_out is not None:
            return document.held_out
        data = document.text.encode()
        return self.choice.holds(_position(self.seed, data), len(data))


_DIVIDED = Choice(0, ANY_SIZE, 0.0)


def _is_divided(choice: Choice) -> bool:
    return choice == _DIVIDED


def _division(source: Source) -> Choice | None:
    """``_DIVIDED`` if the documents say which side they are on, and there are some on both; None if they do not say.

    Raises:
        ValueError: all of them are on one side.
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
        f"All traces of '{source.path}' are on one side of its split ({'test' if held_out else 'train'}), so there is nothing "
        f"to {'train on' if held_out else 'validate with'}. Disassemble several binaries, or give a separate valid_source."
    )


def _measure(source: Source, fraction: float, seed: int, piece: int | None) -> tuple[Choice | None, ByteSketch]:
    sketch = ByteSketch(fraction)
    for document in _documents(source, piece):
        data = document.text.encode()
        sketch.add(_position(seed, data), len(data))
    return sketch.choose(), sketch


def _documents(source: Source, piece: int | None) -> Iterator[Document]:
    for document in source.documents():
        if piece is None or len(document.text) <= piece or document.held_out is not None:
            yield document
        else:
            yield from (Document(f"{document.name}[{n}]", part) for n, part in enumerate(cut(document.text, piece)))


def _position(seed: int, data: bytes) -> int:
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "little")
