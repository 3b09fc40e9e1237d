"""Tokenise rows with answers: ids of the whole row, and a flag at each token that is learnt.

    prompt · answer · EOS              flags on answer and EOS
    before · middle · after · EOS      flags on middle
    solution · EOS                     flags at the blanks of the puzzle
    chat template · EOS                flags on the answers of the assistant, and on an EOS directly after one

The fields are tokenised one by one, so a prompt has the same ids here and when it is continued. The text of an answer
follows the prompt directly: a space between them belongs to one of the two fields.
"""

from __future__ import annotations

import itertools
import json
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.data.corpus.encoding import DocumentTokenizer, TokenizedDocuments
from unmask.data.corpus.row_shapes import ANSWER_ROLE, BLANKS, NEEDS_TEMPLATE
from unmask.data.document import Document
from unmask.data.tokenizing.tokenizers import Tokenizer

BLANK = 2  # flag of a learnt token of a puzzle, whose blanks are one answer in several pieces


class EncodedRow(NamedTuple):
    """One tokenised row.

    Attributes:
        ids: tokens with EOS.
        learnt: 1 at each token that is learnt (``BLANK`` in puzzles), else 0; as long as ``ids``.
        text: the fields in their order in the row.
    """

    ids: list[int]
    learnt: list[int]
    text: str


class RowEncoder:
    """Tokenise rows of ``unmask.data.corpus.row_shapes``.

    Args:
        tokenizer: the tokenizer; rows with messages need one with a chat template.
        eos: id appended to every row.
    """

    def __init__(self, tokenizer: Tokenizer, eos: int) -> None:
        self.tokenizer = tokenizer
        self.eos = eos

    def __call__(self, text: str) -> EncodedRow:
        """Tokenise the canonical JSON text of a row."""
        row = json.loads(text)
        if "messages" in row:
            return self._chat(row["messages"])
        if "puzzle" in row:
            return self._puzzle(row["puzzle"], row["solution"])
        fields, learnt_field = (
            (("prompt", "answer"), "answer") if "answer" in row else (("before", "middle", "after"), "middle")
        )
        before, ids, learnt = "", list[int](), list[int]()
        for field in fields:
            piece = self.tokenizer.encode_behind(before, row[field])
            ids += piece
            learnt += [int(field == learnt_field)] * len(piece)
            before += row[field]
        return EncodedRow([*ids, self.eos], [*learnt, int(learnt_field == "answer")], before)

    def _puzzle(self, puzzle: str, solution: str) -> EncodedRow:
        ids = self.tokenizer.encode(solution)
        if len(ids) != len(solution):
            raise ValueError(
                f"The solution {solution!r} has {len(solution)} characters and {len(ids)} tokens, and the blanks of a puzzle are single tokens. "
                "Use data.tokenizer=characters."
            )
        return EncodedRow([*ids, self.eos], [*(BLANK * (cell in BLANKS) for cell in puzzle), 0], solution)

    def _chat(self, messages: list[dict[str, str]]) -> EncodedRow:
        from unmask.data.supervised import chat_row  # imports torch, which other rows do not need

        row = chat_row(messages, self.chat_tokenizer, ANSWER_ROLE)
        ids, learnt = row["input_ids"], row["loss_mask"]
        if ids[-1:] != [self.eos]:
            ids, learnt = [*ids, self.eos], [*learnt, int(messages[-1]["role"] == ANSWER_ROLE)]
        return EncodedRow(ids, learnt, "\n".join(message["content"] for message in messages))

    @cached_property
    def chat_tokenizer(self) -> Any:
        """The tokenizer as a transformers object, which applies the chat template.

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        return chat_tokenizer(self.tokenizer)


def chat_tokenizer(tokenizer: Tokenizer) -> Any:
    """Return the tokenizer as a transformers object, which applies the chat template.

    Raises:
        ValueError: the tokenizer has no chat template.
    """
    if not tokenizer.settings.get("chat_template"):
        raise ValueError(NEEDS_TEMPLATE)
    return tokenizer.to_transformers()


def answer_window(learnt: NDArray[np.bool_], block_size: int) -> slice:
    """Return the part of a row to keep: all of it, or ``block_size`` tokens around its last answer.

    An answer is cut, at its end, only if it is longer than ``block_size``. The text before and after it gets equal room,
    so that a prompt with an answer at its end loses its left.

    Args:
        learnt: bool ``[n]``, True at the tokens of answers.
        block_size: largest number of tokens.

    Examples:
        >>> import numpy as np
        >>> from unmask.data.row_encoding import answer_window
        >>> answer_window(np.array([0, 0, 0, 0, 1, 1], dtype=bool), 4)
        slice(2, 6, None)
    """
    n = len(learnt)
    if n <= block_size or not learnt.any():
        return slice(max(0, n - block_size), n)
    start, stop = last_answer(learnt)
    room = max(0, block_size - (stop - start))
    left = min(start, max(room // 2, room - (n - stop)))
    first = min(start - left, n - block_size)
    return slice(first, first + block_size)


def last_answer(learnt: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first token of the last answer of a row, and the token after it; (0, 0) without an answer."""
    marked = np.flatnonzero(learnt)
    if not len(marked):
        return 0, 0
    stop = int(marked[-1]) + 1
    given = np.flatnonzero(~learnt[:stop])
    return (int(given[-1]) + 1 if len(given) else 0), stop


class RowTokenizer(DocumentTokenizer):
    """Tokenise rows with answers, in this process and, as a copy, in every worker; arguments as of the base class."""

    def __call__(self, documents: list[Document]) -> TokenizedDocuments:
        rows = [self._encode(document) for document in documents]
        lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
        total = int(lengths.sum())
        tokens: NDArray[Any] = np.fromiter(itertools.chain.from_iterable(row.ids for row in rows), self.dtype, total)
        learnt = np.fromiter(itertools.chain.from_iterable(row.learnt for row in rows), np.uint8, total)
        columns = [lengths, np.array([(len(row.text.encode()), len(row.text.split())) for row in rows], dtype=np.int64)]
        if self.round_trip:
            exact = [self.tokenizer.decode(row.ids) == row.text for row in rows]
            columns.append(np.array(exact, dtype=np.int64))
        return TokenizedDocuments(tokens, np.column_stack(columns), learnt)

    @cached_property
    def _encoder(self) -> RowEncoder:
        return RowEncoder(self.tokenizer, self.eos)

    def _encode(self, document: Document) -> EncodedRow:
        try:
            row = self._encoder(document.text)
        except ValueError as error:
            raise ValueError(f"{document.name}: {error}") from error
        chat = document.text.startswith('{"messages"')
        # The template of a chat places BOS and EOS; where PAD is EOS, it may occur as well.
        allowed = {self.eos, self.tokenizer.bos_token_id} if chat else set()
        body = row.ids if chat else row.ids[:-1]
        self.refuse(document, next((id for id in body if id in self.forbidden_ids - allowed), None))
        return row
