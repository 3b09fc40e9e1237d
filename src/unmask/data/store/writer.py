"""Write a token store: documents in, shards out, with the same bytes for any number of workers.

Tokenised documents fill shards in order; a shard is the fewest next documents with at least ``shard_tokens`` tokens.
Each complete shard has a ``shard-00000.json`` beside it, so an interrupted build continues after its last complete
shard. The manifest is written last, so an incomplete store cannot be opened.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.contracts import SpecialIds
from unmask.data.corpus.encoding import DocumentTokenizer, TokenizedDocuments, encode_all
from unmask.data.document import Document
from unmask.data.row_encoding import RowTokenizer
from unmask.data.store.file_check import check_file
from unmask.data.store.token_store import FORMAT, MANIFEST, VERSION, TokenStore
from unmask.data.tokenizing.number_tokens import is_number_tokenizer
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.storage import atomic_file, digest, read_json, sweep_temporaries, write_json


def write_store(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    source: str,
    shard_tokens: int,
    workers: int = 1,
    round_trip: bool = False,
    supervised: bool = False,
    progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Tokenise documents into a store, or finish one that was interrupted.

    Args:
        folder: destination; a complete store of the same source, tokenizer and sharding is opened and returned.
        documents: the same documents in the same order at every attempt.
        tokenizer: the tokenizer.
        source: fingerprint of the documents' source.
        shard_tokens: a shard is closed once it holds this many tokens.
        workers: processes that tokenise; 1 = this process, with the tokenizer's own threads.
        round_trip: also record for every document whether its tokens decode to its text, as bits per byte require.
        supervised: the documents are rows with answers (``unmask.data.corpus.row_shapes``); the store also holds the
            flags of learnt tokens.
        progress: called with the number of documents done.

    Raises:
        ValueError: the folder holds another store, the tokenizer lacks a mask, pad or EOS token, or a document contains
            one of them.
    """
    options = WriteOptions(source, shard_tokens, round_trip, supervised)
    _tokenise(folder, documents, tokenizer, options, workers, progress, part=False)
    return TokenStore.open(folder)


@dataclass(frozen=True)
class WriteOptions:
    """What determines the bytes of a store beside documents and tokenizer; see :func:`write_store`."""

    source: str
    shard_tokens: int
    round_trip: bool = False
    supervised: bool = False


def write_part(
    folder: Path, documents: Iterable[Document], tokenizer: Tokenizer, options: WriteOptions, workers: int = 1
) -> int:
    """Tokenise the documents of one part of a corpus, which may be none, for :func:`merge_stores`; return their number.

    Errors are those of :func:`write_store`.
    """
    written: int = _tokenise(folder, documents, tokenizer, options, workers, None, part=True)["documents"]
    return written


def _tokenise(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    options: WriteOptions,
    workers: int,
    progress: Callable[[int], None] | None,
    part: bool,
) -> dict[str, Any]:
    special = SpecialIds.of(tokenizer).require("pad", "eos")
    identity = _identity(tokenizer, special, options)
    bos = None if is_number_tokenizer(tokenizer) else special.bos  # ready ids may begin with BOS
    ends_and_marks = [id for id in (special.mask, special.pad, bos, special.eos) if id is not None]
    encoder = (RowTokenizer if options.supervised else DocumentTokenizer)(
        tokenizer, identity["dtype"], int(special.eos or 0), ends_and_marks, options.round_trip
    )

    def pieces(done: int) -> Iterator[TokenizedDocuments]:
        return encode_all(itertools.islice(documents, done, None), encoder, workers)

    return _write(folder, pieces, identity, progress, part)


def merge_stores(
    folder: Path,
    parts: Sequence[Path],
    tokenizer: Tokenizer,
    options: WriteOptions,
    progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Write the store of all documents of some parts, or finish one that was interrupted.

    The store has the bytes that :func:`write_store` would write for the same documents. Every file of a part is compared with
    its digest, and the counts of the store with those of the parts.

    Args:
        folder: destination.
        parts: folders that :func:`write_part` wrote, in the order of the corpus.
        tokenizer, options: those of the whole store.
        progress: called with the number of documents done.

    Raises:
        ValueError: a damaged part, or no document in any part.
    """
    special = SpecialIds.of(tokenizer).require("pad", "eos")
    identity = _identity(tokenizer, special, options)
    manifests = [read_json(part / MANIFEST) for part in parts]

    def pieces(done: int) -> Iterator[TokenizedDocuments]:
        for part, manifest in zip(parts, manifests, strict=True):
            for shard in manifest["shards"]:
                if done >= shard["documents"]:
                    done -= shard["documents"]
                    continue
                yield _read_shard(part, shard, manifest["dtype"], done)
                done = 0

    merged = _write(folder, pieces, identity, progress)
    for key in _TOTALS:
        expected = sum(manifest[key] for manifest in manifests)
        if merged[key] != expected:
            raise ValueError(
                f"The merged store {folder} has {merged[key]} for {key}, and its {len(parts)} parts have {expected}. Delete {folder} and "
                "repeat the command."
            )
    return TokenStore.open(folder)


_TOTALS = ("documents", "token_count", "bytes", "words")


def _read_shard(part: Path, shard: dict[str, Any], dtype: str, first: int) -> TokenizedDocuments:
    """Return the documents of a shard from number ``first`` on, after checking its files."""
    for name in ("tokens", "docs", "learnt"):
        if name in shard:
            check_file(part, shard[name], verify=True)
    table = np.load(part / shard["docs"]["name"], allow_pickle=False)
    start = int(table[:first, 0].sum())
    tokens = np.fromfile(part / shard["tokens"]["name"], np.dtype(dtype).newbyteorder("<"))
    learnt = np.fromfile(part / shard["learnt"]["name"], np.uint8)[start:] if "learnt" in shard else None
    return TokenizedDocuments(tokens[start:].astype(dtype, copy=False), table[first:], learnt)


def _identity(tokenizer: Tokenizer, special: SpecialIds, options: WriteOptions) -> dict[str, Any]:
    """Return the part of a manifest that is known before the first document."""
    dtype = "uint16" if special.vocab_size <= 2**16 else "uint32"
    identity = {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer.fingerprint,
        "source": options.source,
        "shard_tokens": options.shard_tokens,
        "dtype": dtype,
        "vocab_size": special.vocab_size,
        "pad": special.pad,
        "eos": special.eos,
        "mask": special.mask,
    }
    return identity | {"supervised": True} if options.supervised else identity


def _write(
    folder: Path,
    pieces: Callable[[int], Iterable[TokenizedDocuments]],
    identity: dict[str, Any],
    progress: Callable[[int], None] | None,
    part: bool = False,
) -> dict[str, Any]:
    """Write what remains of a store; ``pieces(n)`` are its documents from number ``n`` on."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        _sweep_entries(folder)  # an earlier call was killed after the manifest
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
        _require_same(folder, identity, manifest)
        return manifest
    sweep_temporaries(folder)
    shards = _finished_shards(folder, identity)
    done = sum(shard["documents"] for shard in shards)
    for encoded in _in_shards(_counted(pieces(done), done, progress), identity["shard_tokens"]):
        shards.append(_write_shard(folder, len(shards), encoded, identity))
    if not shards and not part:
        raise ValueError(f"The corpus is empty, so no token store was written to {folder}. Check the source.")
    totals = {key: sum(shard[key] for shard in shards) for key in _TOTALS}
    manifest = identity | totals | {"shards": shards}
    write_json(folder / MANIFEST, manifest)
    _sweep_entries(folder)
    return manifest


def _sweep_entries(folder: Path) -> None:
    for left in folder.glob("shard-*.json"):  # the manifest has their entries
        left.unlink()


def _require_same(folder: Path, requested: dict[str, Any], existing: dict[str, Any]) -> None:
    different = [key for key, value in requested.items() if existing.get(key) != value]
    if different:
        raise ValueError(
            f"The token store {folder} was made with another {' and another '.join(different)}. Choose another folder, "
            "or delete this one to write it again."
        )


def _finished_shards(folder: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of the complete shards of an interrupted build, up to the first gap."""
    shards: list[dict[str, Any]] = []
    for number in itertools.count():
        path = folder / f"shard-{number:05d}.json"
        if not path.exists():
            return shards
        left = read_json(path)
        _require_same(folder, identity, left["identity"])
        for part in ("tokens", "docs", "learnt"):
            if part not in left["shard"]:
                continue
            check_file(folder, left["shard"][part], verify=False)
        shards.append(left["shard"])
    return shards


def _write_shard(folder: Path, number: int, encoded: TokenizedDocuments, identity: dict[str, Any]) -> dict[str, Any]:
    table = io.BytesIO()
    np.save(table, encoded.table)
    tokens = _write_file(
        folder / f"tokens-{number:05d}.bin", encoded.tokens.astype(encoded.tokens.dtype.newbyteorder("<")).data
    )
    docs = _write_file(folder / f"docs-{number:05d}.npy", table.getbuffer())
    counts = [int(total) for total in encoded.table[:, :3].sum(axis=0)]
    shard: dict[str, Any] = {
        "documents": len(encoded.table),
        **dict(zip(("token_count", "bytes", "words"), counts, strict=True)),
        "tokens": tokens,
        "docs": docs,
    }
    if encoded.learnt is not None:
        shard["learnt"] = _write_file(folder / f"learnt-{number:05d}.bin", encoded.learnt.data)
    write_json(folder / f"shard-{number:05d}.json", {"identity": identity, "shard": shard})
    return shard


def _write_file(path: Path, data: memoryview) -> dict[str, Any]:
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest(path)}


def _counted(
    pieces: Iterable[TokenizedDocuments], done: int, progress: Callable[[int], None] | None
) -> Iterator[TokenizedDocuments]:
    for piece in pieces:
        done += len(piece.table)
        if progress is not None:
            progress(done)
        yield piece


def _in_shards(pieces: Iterable[TokenizedDocuments], shard_tokens: int) -> Iterator[TokenizedDocuments]:
    """Regroup chunks so that a shard is the fewest next documents with at least ``shard_tokens`` tokens."""
    held: list[TokenizedDocuments] = []
    count = 0
    for tokens, table, learnt in pieces:
        ends = np.cumsum(table[:, 0])
        used_documents = used_tokens = 0
        while count + int(ends[-1]) - used_tokens >= shard_tokens:
            last = int(np.searchsorted(ends, used_tokens + shard_tokens - count))
            stop = int(ends[last])
            part = None if learnt is None else learnt[used_tokens:stop]
            held.append(TokenizedDocuments(tokens[used_tokens:stop], table[used_documents : last + 1], part))
            yield _join(held)
            held, count = [], 0
            used_documents, used_tokens = last + 1, stop
            if used_documents == len(table):
                break
        if used_documents < len(table):
            part = None if learnt is None else learnt[used_tokens:]
            held.append(TokenizedDocuments(tokens[used_tokens:], table[used_documents:], part))
            count += int(ends[-1]) - used_tokens
    if held:
        yield _join(held)


def _join(pieces: list[TokenizedDocuments]) -> TokenizedDocuments:
    learnt = [piece.learnt for piece in pieces if piece.learnt is not None]
    return TokenizedDocuments(
        np.concatenate([piece.tokens for piece in pieces]),
        np.concatenate([piece.table for piece in pieces]),
        np.concatenate(learnt) if learnt else None,
    )
