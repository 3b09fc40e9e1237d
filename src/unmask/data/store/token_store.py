"""Token stores: tokenised corpora on disk, memory-mapped, so that opening one is immediate and reading copies little.

A store is a folder:

    store.json         the manifest, written last: origin of the store, and size and SHA-256 of every file
    tokens-00000.bin   flat little-endian uint16 or uint32 tokens of complete documents, each ending with EOS
    docs-00000.npy     int64 [documents, 3 or 4]: tokens, UTF-8 bytes and white-space words of each document; in a
                       validation store also 1 if decode(encode(text)) == text, else 0
    learnt-00000.bin   stores of rows with answers only: uint8, 1 at the tokens that are learnt

The tokens have two views: documents ``0..n_documents-1``, and one stream of ``n_tokens`` across all shards. Bits per
byte and bits per word divide by the byte and word counts, which exclude EOS.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from unmask.data.store.file_check import check_file, damaged
from unmask.data.store.window_sequence import WindowSequence
from unmask.storage import read_json

if TYPE_CHECKING:
    import datasets

    from unmask.data.tokenizing.tokenizers import Tokenizer

FORMAT = "unmask token store"
VERSION = 1
MANIFEST = "store.json"


class TokenStore(Sequence[NDArray[np.unsignedinteger]]):
    """A complete token store, read only. Open one with :meth:`open`; ``unmask.prepare`` writes them.

    A store is a sequence of documents: ``len``, indices from both ends, slices, iteration. Each document is a view of the mapped file.
    :meth:`windows` is the sequence of its windows of equal length, and :meth:`to_hf` a Hugging Face dataset of it. A pickled store holds only its path and manifest; the copy in another process maps the same files.

    Args:
        path: the folder.
        manifest: the contents of ``store.json``.

    Attributes:
        path, manifest: the arguments.
        n_documents, n_tokens: totals over all shards; tokens include one EOS per document.
        document_tokens, document_bytes, document_words: int64 ``[n_documents]`` each: tokens with EOS, UTF-8 bytes and
            white-space words without EOS.
        document_exact: bool ``[n_documents]``, whether the tokens of each document decode to its text; None if not
            recorded.
        vocab_size: exclusive upper bound of the ids.
        supervised: whether the store holds rows with answers; :meth:`learnt` then tells their tokens.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from unmask import TokenStore, prepare
        >>> with TemporaryDirectory() as folder:
        ...     text = Path(folder) / "lines.txt"
        ...     _ = text.write_text("\\n".join(f"line {n} of the corpus" for n in range(200)))
        ...     prepared = prepare(text, f"{folder}/data", vocab_size=300, valid_fraction=0.1, workers=1)
        ...     store = TokenStore.open(prepared.train)
        ...     sum(map(len, store)) == store.n_tokens, store.windows(16)[:2].shape, store[-1].ndim
        (True, (2, 16), 1)
    """

    vocab_size: int
    n_documents: int
    n_tokens: int
    supervised: bool
    document_tokens: NDArray[np.int64]
    document_bytes: NDArray[np.int64]
    document_words: NDArray[np.int64]
    document_exact: NDArray[np.bool_] | None

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.vocab_size = manifest["vocab_size"]
        self._shards = [
            np.memmap(path / shard["tokens"]["name"], dtype=np.dtype(manifest["dtype"]).newbyteorder("<"), mode="r")
            for shard in manifest["shards"]
        ]
        self.supervised = all("learnt" in shard for shard in manifest["shards"])
        self._learnt = [
            np.memmap(path / shard["learnt"]["name"], dtype=np.uint8, mode="r")
            for shard in manifest["shards"]
            if self.supervised
        ]
        table = np.concatenate(
            [np.load(path / shard["docs"]["name"], allow_pickle=False) for shard in manifest["shards"]]
        )
        self.document_tokens, self.document_bytes, self.document_words, *exact = np.ascontiguousarray(table.T)
        self.document_exact = exact[0].astype(bool) if exact else None
        self._starts = _offsets([len(shard) for shard in self._shards])  # [shards + 1], first token of each shard
        self._document_starts = _offsets(self.document_tokens)  # [documents + 1]
        self.n_documents = len(self.document_tokens)
        self.n_tokens = int(self._starts[-1])
        if self._document_starts[-1] != self.n_tokens:
            raise ValueError(damaged(path, "its document table and its token files differ in the number of tokens"))

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> TokenStore:
        """Map a store into memory after checking its manifest and the size of every file.

        Args:
            path: the folder of the store.
            verify: also compare the SHA-256 of every file, which reads all of them.

        Raises:
            ValueError: the folder holds no complete store, or one of another version, or a damaged one.
        """
        path = Path(path)
        if not (path / MANIFEST).exists():
            state = "holds no token store" if path.exists() else "does not exist"
            state = "is not finished" if any(path.glob("*.json")) else state
            raise ValueError(
                f"{path} {state} (no {MANIFEST} in it). Create a store with `unmask prepare SOURCE --out FOLDER`, or "
                "run the same command again if it was interrupted; a prepared folder holds two stores, `train` and "
                "`valid`."
            )
        manifest = read_json(path / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(
                f"{path / MANIFEST} does not describe a token store of unmask. Pass a folder that `unmask prepare` "
                "wrote."
            )
        if manifest.get("version") != VERSION:
            raise ValueError(
                f"{path} is a token store of version {manifest.get('version')}, and this unmask reads version "
                f"{VERSION}. Prepare the corpus again into a new folder."
            )
        try:
            files = [
                shard[part]
                for shard in manifest["shards"]
                for part in ("tokens", "docs", "learnt")
                if part != "learnt" or part in shard
            ]
            for file in files:
                check_file(path, file, verify=verify)
            return cls(path, manifest)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(damaged(path, f"{MANIFEST} lacks {error}")) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self.path, self.manifest)

    def __len__(self) -> int:
        return self.n_documents

    @overload
    def __getitem__(self, index: int) -> NDArray[np.unsignedinteger]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.unsignedinteger]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.unsignedinteger] | list[NDArray[np.unsignedinteger]]:
        if isinstance(index, slice):
            return [self.document(each) for each in range(*index.indices(self.n_documents))]
        return self.document(index + self.n_documents if -self.n_documents <= index < 0 else index)

    def __contains__(self, document: object) -> bool:
        return any(np.array_equal(each, np.asarray(document)) for each in self)

    def __repr__(self) -> str:
        source = "" if self.made_from is None else f", made from {self.made_from['source']}"
        size = f"{self.n_documents:,} documents, {self.n_tokens:,} tokens, {self.vocab_size:,} ids"
        return f"TokenStore({str(self.path)!r}: {size}{source})"

    @cached_property
    def made_from(self) -> dict[str, Any] | None:
        """The settings of ``unmask prepare`` that made the store, such as ``source``; None for a store without its folder."""
        file = self.path.parent / "arguments.json"
        recipe = read_json(file).get("recipe") if file.is_file() else None
        return recipe if isinstance(recipe, dict) else None

    def to_hf(self, tokenizer: Tokenizer | None = None, *, cache_dir: str | None = None) -> datasets.Dataset:
        """Return the documents as a ``datasets.Dataset`` with the columns ``input_ids``, ``learnt`` (rows with answers) and ``text``.

        The dataset is written to disk in batches and mapped, so memory does not grow with the store.

        Args:
            tokenizer: decodes the column ``text``; None = the ``tokenizer.json`` beside the store, or no text without one.

        Other Parameters:
            cache_dir: folder of the Arrow file; None = the cache of ``datasets``.

        Raises:
            ImportError: ``datasets`` is not installed.
            ValueError: the tokenizer is not that of the store.
        """
        from unmask.data.store.hugging_face import as_dataset

        return as_dataset(self, tokenizer, cache_dir)

    def document(self, index: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens of one document with its EOS, ``[n]``, as a view of the mapped file.

        Args:
            index: number of the document, from 0.

        Raises:
            IndexError: there is no such document.
        """
        return self.read(*self._extent(index))

    def learnt(self, index: int) -> NDArray[np.bool_]:
        """Return which tokens of one row are learnt, bool ``[n]``, aligned with :meth:`document`.

        Args:
            index: number of the row, from 0.

        Raises:
            IndexError: there is no such row.
            ValueError: the store holds documents without answers.
        """
        flags: NDArray[np.bool_] = self.flags(index) != 0
        return flags

    def flags(self, index: int) -> NDArray[np.uint8]:
        """Return the flags of one row as they were stored, uint8 ``[n]``: 0 = given, 1 = learnt, 2 = blank of a puzzle.

        Args:
            index: number of the row, from 0.

        Raises:
            IndexError: there is no such row.
            ValueError: the store holds documents without answers.
        """
        if not self.supervised:
            raise ValueError(
                f"{self.path} holds documents without answers, so no token is marked as learnt. Prepare rows with answers: "
                "`unmask prepare rows.jsonl --kind supervised`."
            )
        flags: NDArray[np.uint8] = self._read(self._learnt, *self._extent(index))
        return flags

    def _extent(self, index: int) -> tuple[int, int]:
        """Return the first token of a document, and the one after its last."""
        if not 0 <= index < self.n_documents:
            raise IndexError(f"There is no document {index}: {self.path} holds documents 0 to {self.n_documents - 1}.")
        return int(self._document_starts[index]), int(self._document_starts[index + 1])

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Return tokens ``start..stop-1`` of the stream, ``[stop - start]``; a view if one shard holds all of them.

        Args:
            start, stop: indices into the stream.

        Raises:
            IndexError: the range exceeds the stream.
        """
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"Tokens {start} to {stop} are out of range: {self.path} holds {self.n_tokens}.")
        return self._read(self._shards, start, stop)

    def _read(self, shards: list[Any], start: int, stop: int) -> NDArray[Any]:
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = min(first, len(shards) - 1)
        last = max(first, int(np.searchsorted(self._starts, stop, side="left")) - 1)
        parts = [
            shards[shard][max(0, start - self._starts[shard]) : stop - self._starts[shard]]
            for shard in range(first, last + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def windows(self, block_size: int) -> WindowSequence:
        """Return the sequence of consecutive windows of ``block_size`` tokens; the last one may be padded."""
        return WindowSequence(self, block_size)

    def gather_windows(self, indices: Any, block_size: int) -> NDArray[np.int64]:
        """Return windows of the stream: row ``i`` starts at token ``indices[i] * block_size``.

        Args:
            indices: integers ``[N]`` in ``0..len(windows(block_size))-1``, in any order, repeats allowed.
            block_size: tokens per window.

        Returns:
            int64 ``[N, block_size]``; the last window is padded with PAD.

        Raises:
            IndexError: an index is out of range.
        """
        indices = np.asarray(indices, dtype=np.int64)
        count = len(self.windows(block_size))
        if indices.size and not (indices.min() >= 0 and indices.max() < count):
            raise IndexError(
                f"Windows {indices.min()} to {indices.max()} are out of range: {self.path} holds windows 0 to "
                f"{count - 1}."
            )
        first = indices * block_size
        shard = np.searchsorted(self._starts, first, side="right") - 1
        inside = (
            first + block_size <= self._starts[np.minimum(shard + 1, len(self._shards))]
        )  # windows within one shard
        numbers = np.unique(shard)
        rows: NDArray[np.int64]
        if len(numbers) == 1 and inside.all():
            rows = self._sliding(int(numbers[0]), block_size)[first - self._starts[numbers[0]]].astype(np.int64)
            return rows
        rows = np.empty((len(indices), block_size), dtype=np.int64)
        for number in np.unique(shard[inside]):
            mine = inside & (shard == number)
            rows[mine] = self._sliding(int(number), block_size)[first[mine] - self._starts[number]]
        for row in np.flatnonzero(~inside):  # few windows cross into the next shard or exceed the stream
            tokens = self.read(int(first[row]), int(min(first[row] + block_size, self.n_tokens)))
            rows[row, : len(tokens)], rows[row, len(tokens) :] = tokens, self.manifest["pad"]
        return rows

    def _sliding(self, shard: int, width: int) -> NDArray[np.unsignedinteger]:
        """Return every run of ``width`` tokens of a shard as a view ``[n - width + 1, width]``."""
        tokens = np.asarray(self._shards[shard])
        return np.lib.stride_tricks.as_strided(
            tokens, (len(tokens) - width + 1, width), tokens.strides * 2, writeable=False
        )

    @cached_property
    def unigram_counts(self) -> NDArray[np.int64]:
        """The number of occurrences of each id in the store, int64 ``[vocab_size]``."""
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        for shard in self._shards:
            for start in range(0, len(shard), 2**24):
                counts += np.bincount(shard[start : start + 2**24], minlength=self.vocab_size)
        return counts

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Check that a ``Tokenizer`` is the one of this store.

        Args:
            tokenizer: a ``Tokenizer``.

        Raises:
            ValueError: the store was written with another tokenizer.
        """
        if tokenizer.fingerprint != self.manifest["tokenizer"]:
            raise ValueError(
                f"The tokens in {self.path} come from another tokenizer (the store's vocabulary has {self.vocab_size} "
                f"ids, this one {len(tokenizer)}), so its ids denote other words. Use the tokenizer.json beside the "
                "store, or prepare the corpus again with `unmask prepare --tokenizer`."
            )


def _offsets(lengths: Any) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
