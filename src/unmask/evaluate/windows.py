"""Windows: held-out documents cut into rows for a model.

A document of more than ``block_size`` tokens becomes several windows, each scored separately: the sum of their negative
log-likelihood bounds is a bound for the document. Windows are ragged arrays of ids; their batches are padded on the
right.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.collate.layout import pad
from unmask.contracts import SpecialIds
from unmask.data.row_encoding import BLANK, answer_window, last_answer
from unmask.data.store.token_store import TokenStore


@dataclass(frozen=True)
class Windows:
    """The rows of an evaluation and the documents they come from.

    Attributes:
        rows: ``W`` integer arrays ``[l_w]`` of ids, ``0 < l_w <= block_size``.
        document: int64 ``[W]``, the document of each row.
        document_bytes, document_words: int64 ``[D]``, UTF-8 bytes and white-space words of each document; zero if the
            text is unknown.
        document_exact: bool ``[D]``, whether the tokens of each document decode to its text; None = unknown.
        answers: ``W`` bool arrays ``[l_w]``, the tokens to score, special ones included; None = all ordinary tokens.

    Examples:
        >>> windows = Windows.of_rows([[5, 6, 7], [8]], block_size=2)
        >>> [row.tolist() for row in windows.rows], windows.document.tolist()
        ([[5, 6], [7], [8]], [0, 0, 1])
    """

    rows: Sequence[NDArray[np.integer]]
    document: NDArray[np.int64]
    document_bytes: NDArray[np.int64]
    document_words: NDArray[np.int64]
    document_exact: NDArray[np.bool_] | None = None
    answers: Sequence[NDArray[np.bool_]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self.document_bytes)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row, int64 ``[W]``."""
        return np.array([len(row) for row in self.rows], dtype=np.int64)

    @classmethod
    def of_store(cls, store: TokenStore, block_size: int, documents: Sequence[int] | None = None) -> Windows:
        """Return the windows of a token store.

        Args:
            store: its rows are views of the store's files.
            block_size: largest number of tokens of a window.
            documents: indices of documents; None = all.
        """
        index = np.arange(store.n_documents) if documents is None else np.asarray(documents, dtype=np.int64)
        rows, owner = _cut((store.document(int(i)) for i in index), block_size)
        exact = None if store.document_exact is None else store.document_exact[index]
        return cls(rows, owner, store.document_bytes[index], store.document_words[index], exact)

    @classmethod
    def of_rows(
        cls,
        rows: Iterable[Sequence[int]],
        block_size: int,
        texts: Sequence[str] | None = None,
        decode: Callable[[list[int]], str] | None = None,
    ) -> Windows:
        """Return the windows of rows of ids, one per document; ``texts`` enable bits per byte and per word.

        Args:
            rows: ids of each document.
            block_size: largest number of tokens of a window.
            texts: the text of each document.
            decode: a tokenizer's ``decode``. With ``texts``, documents whose ids decode to another text are left out of
                bits per byte and per word.

        Raises:
            ValueError: ``texts`` and ``rows`` differ in number.
        """
        ids = [np.asarray(row, dtype=np.int64) for row in rows]
        if texts is not None and len(texts) != len(ids):
            raise ValueError(
                f"There are {len(ids)} rows of ids and {len(texts)} texts; give the text of every row, or texts=None."
            )
        windows, owner = _cut(ids, block_size)
        sizes = np.array(
            [(len(t.encode()), len(t.split())) for t in texts] if texts else np.zeros((len(ids), 2)), dtype=np.int64
        )
        exact = None
        if texts is not None and decode is not None:
            exact = np.array([decode(row.tolist()) == text for row, text in zip(ids, texts, strict=True)], dtype=bool)
        n_bytes, n_words = sizes.reshape(-1, 2).T
        return cls(windows, owner, n_bytes, n_words, document_exact=exact)

    @classmethod
    def of_answers(cls, rows: Iterable[tuple[Sequence[int], Sequence[int]]], block_size: int) -> Windows:
        """Return one window of each row with answers, in which its last answer is scored.

        Args:
            rows: ids of each row, and 1 at its tokens that belong to answers (2 = blank of a puzzle), else 0.
            block_size: largest number of tokens of a window; a longer row is cut around its last answer.

        Raises:
            ValueError: no row has an answer.
        """
        windows, answers = [], []
        for ids, flags in rows:
            learnt = np.asarray(flags, dtype=bool)
            start, stop = last_answer(learnt)
            kept = answer_window(learnt, block_size)
            place = np.arange(len(learnt))
            in_pieces = BLANK in flags  # all blanks of a puzzle are one answer
            answer = (learnt if in_pieces else (place >= start) & (place < stop))[kept]
            if answer.any():
                windows.append(np.asarray(ids, dtype=np.int64)[kept])
                answers.append(answer)
        if not windows:
            raise ValueError("There is no answer to evaluate: give rows with a prompt and an answer, or chats.")
        zeros = np.zeros(len(windows), dtype=np.int64)
        return cls(windows, np.arange(len(windows)), zeros, zeros, None, answers)

    def by_blocks(self, block: int, special: SpecialIds) -> Windows:
        """Return one window for each block of ``block`` tokens that has a token to score: the row up to the end of the block, which alone is scored.

        The bounds of a row's blocks sum to a bound of the row, each given the clean blocks before it (BD3-LM, 2503.09573, eq. 3).

        Args:
            block: tokens of a block, counted from a row's first token.
            special: ids that are not scored, without ``answers``.
        """
        rows, owner, answers = [], [], []
        for number, row in enumerate(self.rows):
            maskable = ~np.isin(row, special.all) if self.answers is None else self.answers[number]
            for start in range(0, len(row), block):
                scored = maskable[: start + block].copy()
                scored[:start] = False
                if scored.any():
                    rows.append(row[: start + block])
                    owner.append(self.document[number])
                    answers.append(scored)
        return replace(self, rows=rows, document=np.array(owner, dtype=np.int64), answers=answers)

    def noise_keys(self, special: SpecialIds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a key of each row, and its place among all rows: int64 ``[W]`` each, the same in every order of the documents.

        The key is made from the ids of the row without padding, from its tokens to score, and from the number of equal rows
        before it. Places ``0..W-1`` follow the order of the keys, so that rates spread evenly over the rows.

        Args:
            special: the id of padding, which is no content.
        """
        equal: Counter[bytes] = Counter()
        keys = np.empty(len(self), dtype=np.int64)
        for number, row in enumerate(self.rows):
            real = (
                np.flatnonzero(row != special.pad) if special.pad is not None and special.pad != special.eos else None
            )
            kept = slice(None) if real is None or not len(real) else slice(int(real[0]), int(real[-1]) + 1)
            scored = b"" if self.answers is None else self.answers[number][kept].tobytes()
            content = hashlib.sha256(b"%d:" % len(row[kept]) + row[kept].astype("<i8").tobytes() + scored).digest()
            keyed = hashlib.sha256(content + b"%d" % equal[content]).digest()
            keys[number] = int.from_bytes(keyed[:8], "little", signed=True)
            equal[content] += 1
        place = np.empty(len(self), dtype=np.int64)
        place[np.argsort(keys, kind="stable")] = np.arange(len(self))
        return keys, place

    def scorable(self, special: SpecialIds) -> NDArray[np.int64]:
        """Return the number of tokens of each row that are not special, or that belong to answers, int64 ``[W]``.

        Raises:
            ValueError: a row contains the mask token.
        """
        kinds = np.zeros(1 + max((int(row.max()) for row in self.rows), default=0), dtype=bool)
        kinds[[i for i in special.all if i < len(kinds)]] = True
        if any((row == special.mask).any() for row in self.rows):
            raise ValueError(
                f"The held-out rows contain the mask token (id {special.mask}), which cannot be scored. Prepare the corpus with "
                "`unmask prepare`, which encodes the mask token's spelling as plain text."
            )
        if self.answers is not None:
            return np.array([int(answer.sum()) for answer in self.answers], dtype=np.int64)
        return np.array([len(row) - int(kinds[row].sum()) for row in self.rows], dtype=np.int64)

    def unscored(self, special: SpecialIds) -> int:
        """Return the number of special tokens inside documents, which are not scored; end-of-document tokens do not
        count. None count in rows with answers.
        """
        if self.answers is not None:
            return 0
        ends = sum(int((row == special.eos).sum()) for row in self.rows) if special.eos is not None else 0
        return int(self.lengths.sum() - self.scorable(special).sum()) - ends


def _cut(
    documents: Iterable[NDArray[np.integer]], block_size: int
) -> tuple[list[NDArray[np.integer]], NDArray[np.int64]]:
    if block_size < 1:
        raise ValueError(f"block_size={block_size} is the number of tokens of a window: give at least 1, such as 512.")
    rows, owner = [], []
    for number, ids in enumerate(documents):
        pieces = [ids[start : start + block_size] for start in range(0, len(ids), block_size)]
        rows += pieces
        owner += [number] * len(pieces)
    return rows, np.array(owner, dtype=np.int64)


def batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Yield indices of rows of similar length, longest first, with a padded size of at most ``batch_tokens`` per group.

    A longer row is a batch of its own.
    """
    if batch_tokens < 1:
        raise ValueError(
            f"batch_tokens={batch_tokens} is the padded size of a batch: give at least 1, such as batch_tokens=16384."
        )
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def stack(
    rows: Sequence[NDArray[np.integer]],
    special: SpecialIds,
    device: torch.device,
    answers: Sequence[NDArray[np.bool_]] | None = None,
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"], Bool[Tensor, "batch seq"]]:
    """Pad rows on the right; return ids, the mask of real tokens and the mask of maskable tokens, each ``[B, L]``.

    Maskable are the tokens of ``answers``; without them, the real tokens that are not special. Padding that rows bring along, at either end, is
    not real; a PAD that also ends documents (``pad == eos``) is a token.
    """
    ids, real = pad(list(rows), max(map(len, rows)), special.pad if special.pad is not None else special.mask)
    if special.pad is not None and special.pad != special.eos:
        token = real & (ids != special.pad)
        real = token.cummax(1).values & token.flip(1).cummax(1).values.flip(1)
    if answers is None:
        maskable = real & ~torch.isin(ids, torch.tensor(special.all))
    else:
        maskable = pad([answer.astype(np.int64) for answer in answers], ids.shape[1], 0)[0] == 1
    return ids.to(device), real.to(device), maskable.to(device)
