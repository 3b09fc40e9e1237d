"""Divide plain text into documents.

Each function yields ``(line, piece)``: the number of the first line of a piece, and its text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Literal, get_args

Unit = Literal["file", "section", "paragraph", "line"]
UNITS: tuple[str, ...] = get_args(Unit)

SECTION_CHARACTERS = 4096  # a section ends at the first blank line after this many characters
LARGEST_SECTION = 2**20  # characters; a longer section ends at the next line, which bounds memory
_TITLE = re.compile(r" ?= [^=].* = ?\n?")


def pieces(file: io.TextIOWrapper, unit: Unit) -> Iterator[tuple[int, str]]:
    """Yield the pieces of a text: the file, its sections, its paragraphs or its lines."""
    if unit == "file":
        return iter([(1, file.read())])
    if unit == "line":
        return enumerate(file, start=1)
    return _paragraphs(file) if unit == "paragraph" else _sections(file)


def _sections(file: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Yield articles in a file with wiki titles (`` = Title = ``), otherwise paragraphs joined to a useful length."""
    lines: list[str] = []
    length, titled = 0, False
    number = begun = 1
    for line in iter(lambda: file.readline(LARGEST_SECTION), ""):
        title = _TITLE.fullmatch(line) is not None
        long_enough = not titled and length >= SECTION_CHARACTERS and not line.strip()
        if lines and (title or long_enough or length >= LARGEST_SECTION):
            yield begun, "".join(lines)
            lines, length, begun = [], 0, number
        titled = titled or title
        lines.append(line)
        length += len(line)
        number += line.endswith("\n")
    yield begun, "".join(lines)


def _paragraphs(file: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    lines: list[str] = []
    number = 1
    for number, line in enumerate(file, start=1):
        if line.strip():
            lines.append(line)
        elif lines:
            yield number - len(lines), "".join(lines)
            lines = []
    yield max(1, number + 1 - len(lines)), "".join(lines)


def cut(text: str, size: int) -> list[str]:
    """Cut a text into pieces of ``size / 2`` to ``size`` characters, whose concatenation is the text.

    A piece ends after a blank line, else after a line, else after a space, else after ``size`` characters.
    """
    parts = []
    start = 0
    while len(text) - start > size:
        middle, stop = start + size // 2, start + size
        ends = (
            text.rfind(mark, middle, stop) + len(mark)
            for mark in ("\n\n", "\n", " ")
            if text.rfind(mark, middle, stop) >= 0
        )
        end = next(ends, stop)
        parts.append(text[start:end])
        start = end
    parts.append(text[start:])
    return parts
