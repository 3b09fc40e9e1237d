"""Rows of supervised fine-tuning, and the canonical JSON text that carries a row through readers, split and writer.

    {"prompt", "answer"}               only the answer is learnt
    {"messages": [{"role", "content"}]}    a chat; only the answers of the assistant are learnt
    {"before", "middle", "after"}      infilling; only the middle is learnt
    {"puzzle", "solution"}             of equal length; the tokens at the blanks of the puzzle (0, . or _) are learnt

Other fields are ignored, and a null field counts as missing. Equal rows have equal texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from unmask.data.corpus.readers import as_text, unknown_field
from unmask.data.corpus.text_stream import Input
from unmask.data.document import Document

ANSWER_ROLE = "assistant"
ROW_KINDS = ("jsonl", "csv", "tsv", "parquet", "arrow", "dataset", "hub")
"""The kinds of sources whose rows are read."""
SHAPES = (("prompt", "answer"), ("messages",), ("before", "middle", "after"), ("puzzle", "solution"))
NEEDS_TEMPLATE = (
    "Rows with messages need a tokenizer with a chat template. Give that of a chat model (--tokenizer; in a config "
    "data.tokenizer), put a chat_template.jinja beside its tokenizer.json, or write rows with "
    '"prompt" and "answer".'
)
WHAT_A_PROMPT_HOLDS = (
    'Each row must have the field {"prompt": "..."}, or {"messages": [{"role": "...", "content": "..."}]}.'
)
RowText = Callable[[Mapping[str, Any], str], str | None]
"""A row and its place -> the text of its document, or None to skip it."""
ROW_FIELDS = tuple(field for shape in SHAPES for field in shape)
EXAMPLE = '{"prompt": "...", "answer": "..."}'
WHAT_A_ROW_HOLDS = (
    f'A row of supervised data holds {EXAMPLE}, {{"messages": [{{"role": "...", "content": "..."}}]}}, '
    '{"before": "...", "middle": "...", "after": "..."}; or {"puzzle": "1.2", "solution": "132"}.'
)
BLANKS = "0._"
"""Characters of a puzzle that stand for a blank."""


def row_as_text(row: Mapping[str, Any], where: str) -> str:
    """Return the fields of a row that are used, as canonical JSON.

    Args:
        row: the fields; the first of ``SHAPES`` whose fields are all present is used.
        where: file and line, or file and row, for error messages.

    Raises:
        ValueError: the fields of no shape are complete, or a field holds another type.

    Examples:
        >>> from unmask.data.corpus.row_shapes import row_as_text
        >>> row_as_text({"prompt": "2+2=", "id": 7, "answer": "4"}, "sums.jsonl, line 1")
        '{"answer": "4", "prompt": "2+2="}'
    """
    shape = next((shape for shape in SHAPES if all(row.get(field) is not None for field in shape)), None)
    if shape is None:
        known = [name for name, value in row.items() if value is not None]
        missing = _missing(known)
        raise ValueError(unknown_field(f"{where},", missing, known, WHAT_A_ROW_HOLDS))
    if shape == ("messages",):
        messages = read_messages(row["messages"], where)
        if not any(message["role"] == ANSWER_ROLE for message in messages):
            raise ValueError(
                f"{where}: no message has the role {ANSWER_ROLE!r}, so nothing is learnt. Drop the row, or rename the role "
                f"of its answers. {WHAT_A_ROW_HOLDS}"
            )
        if messages[0]["role"] == ANSWER_ROLE:
            raise ValueError(
                f"{where}: the chat begins with a message of role {ANSWER_ROLE!r}, and an answer follows a prompt. Put a "
                "message of role 'user' before it, or drop the row."
            )
        used: dict[str, Any] = {"messages": messages}
    else:
        used = {field: as_text(row[field], field, where, WHAT_A_ROW_HOLDS) for field in shape}
        if used.get("middle") == "":
            raise ValueError(
                f"{where}: field 'middle' is empty, so nothing is learnt. Drop the row. {WHAT_A_ROW_HOLDS}"
            )
        if shape == ("puzzle", "solution"):
            _check_puzzle(used["puzzle"], used["solution"], where)
    return json.dumps(used, ensure_ascii=False, sort_keys=True)


def _check_puzzle(puzzle: str, solution: str, where: str) -> None:
    """Check that a puzzle has blanks, and that its solution has its other characters at their places.

    Raises:
        ValueError: it does not.
    """
    same = len(puzzle) == len(solution) and all(p in BLANKS or p == s for p, s in zip(puzzle, solution, strict=True))
    if not same or not any(p in BLANKS for p in puzzle):
        raise ValueError(
            f"{where}: puzzle {puzzle!r} and solution {solution!r} must be of one length and equal but for the blanks (0, . or _), of which "
            f"there must be one or more. {WHAT_A_ROW_HOLDS}"
        )


def read_messages(messages: Any, where: str) -> list[dict[str, str]]:
    """Check the messages of a chat, and return role and content of each.

    Args:
        messages: a list of mappings.
        where: file and line, for error messages.

    Raises:
        ValueError: no list, an empty one, or a message without a role or a content that is text.
    """
    if not isinstance(messages, list) or not messages or not all(isinstance(each, Mapping) for each in messages):
        raise ValueError(
            f"{where}: field 'messages' holds {type(messages).__name__}, and a list of messages was expected. "
            f"{WHAT_A_ROW_HOLDS}"
        )
    read = []
    for number, message in enumerate(messages):
        place = f"{where}, message {number}"
        for field in ("role", "content"):
            if message.get(field) is None:
                raise ValueError(unknown_field(f"{place},", field, message, WHAT_A_ROW_HOLDS))
        read.append({field: as_text(message[field], field, place, WHAT_A_ROW_HOLDS) for field in ("role", "content")})
    return read


def prompt_as_text(row: Mapping[str, Any], where: str) -> str | None:
    """Return the prompt of a row as canonical JSON: ``{"prompt"}``, or ``{"messages"}`` without a last answer.

    Args:
        row: the fields; an answer is ignored.
        where: file and line, or file and row, for error messages.

    Returns:
        The text; None for a prompt that is null.

    Raises:
        ValueError: neither field is present, or one holds another type.
    """
    used: dict[str, Any]
    if row.get("messages") is not None:
        messages = read_messages(row["messages"], where)
        while messages and messages[-1]["role"] == ANSWER_ROLE:
            messages.pop()
        if not messages:
            raise ValueError(f"{where}: field 'messages' holds answers only, and there is no message to answer.")
        used = {"messages": messages}
    elif "prompt" in row:
        if row["prompt"] is None:
            return None
        used = {"prompt": as_text(row["prompt"], "prompt", where, WHAT_A_PROMPT_HOLDS)}
    else:
        raise ValueError(unknown_field(f"{where},", "prompt", row, WHAT_A_PROMPT_HOLDS))
    return json.dumps(used, ensure_ascii=False, sort_keys=True)


def row_documents(
    source: Input, rows: Iterable[Mapping[str, Any]], text_of: RowText, first: int = 0
) -> Iterator[Document]:
    """Yield the rows of a table as documents, numbered from ``first``."""
    for number, row in enumerate(rows, start=first):
        text = text_of(row, f"{source.place}, row {number}")
        if text is not None:
            yield Document(f"{source.name}:{number}", text)


def row_fields(text: str) -> list[str]:
    """Return the texts of a row, to train a tokenizer on.

    Args:
        text: canonical JSON of the row.

    Raises:
        ValueError: a row with messages, which no trained tokenizer can convert to text.
    """
    row = json.loads(text)
    if "messages" in row:
        raise ValueError(NEEDS_TEMPLATE)
    return [row[field] for field in ROW_FIELDS if field in row]


def _missing(known: list[str]) -> str:
    """Return the missing field of the shape that the known fields are nearest to."""
    nearest = max(SHAPES, key=lambda shape: sum(field in known for field in shape))
    return next(field for field in nearest if field not in known)
