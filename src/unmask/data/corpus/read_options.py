"""What one document is, and which field holds its text: the options of every file format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unmask.data.corpus.readers import CHOOSE
from unmask.data.corpus.row_shapes import EXAMPLE, ROW_FIELDS, RowText, row_as_text
from unmask.data.corpus.sections import Unit

Inserts = Literal["keep", "drop"]


@dataclass(frozen=True)
class ReadOptions:
    """What one document is, and which field holds its text.

    Attributes:
        field: field or column of the text, for formats with several.
        unit: what one document of plain text is.
        inserts: whether insertions of aligned sequences (A3M) stay.
        advice: remedy in the error for a field that is missing or holds no text.
        row: text of a whole row instead of one field (``unmask.data.corpus.row_shapes``).
        columns: columns that ``row`` needs, for formats that store them apart; None = all.
    """

    field: str = "text"
    unit: Unit = "section"
    inserts: Inserts = "keep"
    advice: str = CHOOSE
    row: RowText | None = None
    columns: Sequence[str] | None = ROW_FIELDS

    @property
    def example(self) -> str:
        """A row, for error messages."""
        return EXAMPLE if self.row is row_as_text else f'{{"{self.field}": "..."}}'
