"""A document: a named text, the unit that every reader yields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text, assigned to training or validation as a unit.

    Attributes:
        name: where the text came from, for error messages.
        text: the text.
        held_out: True = validation, False = training, in a corpus with its own split; otherwise None.

    Examples:
        >>> from unmask.data.document import Document
        >>> Document("notes.txt:1", "A text.").held_out is None
        True
    """

    name: str
    text: str
    held_out: bool | None = None
