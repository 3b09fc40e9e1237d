"""A document: a piece of text with a name, as every reader yields it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text that is kept or held out as a whole. ``name`` says where it came from; ``held_out``, in a corpus that is
    divided already, on which side it is."""

    name: str
    text: str
    held_out: bool | None = None
