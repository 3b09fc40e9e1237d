"""Tokenise documents into arrays, in this process or in several, preserving the order.

The parent process reads documents and sends chunks of them to workers. Only a few chunks per worker are in flight, so
memory is bounded. This module does not import torch, so a worker starts in a fraction of a second.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.data.document import Document
from unmask.data.tokenizing.tokenizers import Tokenizer

CHUNK_DOCUMENTS = 512
CHUNK_CHARACTERS = 2**20
POOL_AFTER_CHUNKS = 4  # starting processes takes longer than tokenising a smaller corpus


class TokenizedDocuments(NamedTuple):
    """The tokens of some documents.

    Attributes:
        tokens: uint16 or uint32 ``[n]``.
        table: int64 ``[documents, 3 or 4]``: tokens, bytes, words and, if compared, whether the tokens decode to the
            text.
        learnt: uint8 ``[n]``, 1 at the tokens of answers; None for documents without answers.
    """

    tokens: NDArray[np.unsignedinteger]
    table: NDArray[np.int64]
    learnt: NDArray[np.uint8] | None = None


class DocumentTokenizer:
    """Tokenise documents, in this process and, as a copy, in every worker.

    Args:
        tokenizer: the tokenizer.
        dtype: ``"uint16"`` or ``"uint32"``.
        eos: id appended to every document.
        forbidden: ids that no text may produce.
        round_trip: also decode every document and compare the result with its text.
    """

    def __init__(
        self, tokenizer: Tokenizer, dtype: str, eos: int, forbidden: Sequence[int], round_trip: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.eos = eos
        self.forbidden: NDArray[Any] = np.array(forbidden)
        self.round_trip = round_trip

    def __call__(self, documents: list[Document]) -> TokenizedDocuments:
        ids = self.tokenizer.encode_batch([document.text for document in documents])
        lengths = np.array([len(row) + 1 for row in ids], dtype=np.int64)
        tokens = np.fromiter(
            itertools.chain.from_iterable((*row, self.eos) for row in ids), self.dtype, count=int(lengths.sum())
        )
        self._refuse_specials(documents, tokens, lengths)
        sizes = [(len(document.text.encode()), len(document.text.split())) for document in documents]
        columns = [lengths, np.array(sizes, dtype=np.int64)]
        if self.round_trip:
            columns.append(
                np.array(
                    [self.tokenizer.decode(row) == d.text for row, d in zip(ids, documents, strict=True)],
                    dtype=np.int64,
                )
            )
        return TokenizedDocuments(tokens, np.column_stack(columns))

    def _refuse_specials(self, documents: list[Document], tokens: NDArray[Any], lengths: NDArray[np.int64]) -> None:
        wrong = np.isin(tokens, self.forbidden)
        ends = np.cumsum(lengths)
        wrong[ends - 1] = False
        if wrong.any():
            first = int(np.argmax(wrong))
            self.refuse(documents[int(np.searchsorted(ends, first, side="right"))], int(tokens[first]))

    @property
    def forbidden_ids(self) -> set[int]:
        """Ids that no text may produce."""
        return set(self.forbidden.tolist())

    def refuse(self, document: Document, id: int | None) -> None:
        """Refuse a document whose text produces a special token.

        Raises:
            ValueError: ``id`` is not None.
        """
        if id is not None:
            raise ValueError(
                f"The document '{document.name}' contains the special token "
                f"'{self.tokenizer.token_text(id)}', and this tokenizer does not encode it as plain "
                "text, so it could not be distinguished from a real one. Remove it from the text, or mark the token as "
                "special in the tokenizer."
            )


_worker_tokenizer: DocumentTokenizer


def _start_worker(tokenizer: DocumentTokenizer) -> None:
    global _worker_tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = tokenizer


def _encode_in_worker(documents: list[Document]) -> TokenizedDocuments:
    return _worker_tokenizer(documents)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text)
        if len(chunk) >= CHUNK_DOCUMENTS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def encode_all(
    documents: Iterable[Document], tokenizer: DocumentTokenizer, workers: int
) -> Iterator[TokenizedDocuments]:
    """Yield the tokens of all documents, chunk by chunk and in order.

    Args:
        documents: read lazily.
        tokenizer: picklable; every worker gets a copy.
        workers: number of processes; 1 = this process.

    Raises:
        RuntimeError: a worker process was killed.
    """
    chunks = _chunks(documents)
    for chunk in itertools.islice(chunks, POOL_AFTER_CHUNKS if workers > 1 else None):
        yield tokenizer(chunk)
    first = next(chunks, None)
    if first is None:
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(tokenizer,))
    waiting: deque[Future[TokenizedDocuments]] = deque()
    try:
        for chunk in itertools.chain([first], chunks):
            waiting.append(pool.submit(_encode_in_worker, chunk))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A tokenising process was killed, usually because memory ran out. Run the same command again with fewer "
            "workers; it continues after the last finished shard. In a script, call prepare() under `if __name__ == "
            "'__main__':`."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
