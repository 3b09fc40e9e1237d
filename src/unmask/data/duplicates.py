"""Find documents that repeat earlier ones: equal texts, or nearly equal ones.

    exact   a text with the same 128-bit hash
    near    a text whose sets of word 5-grams have an estimated Jaccard similarity of at least 0.8 (MinHash, Broder 1997)

Every document has a signature: its hash, or 128 minima of permuted hashes of its 5-grams. Documents with an equal band of
their signatures are compared (Leskovec et al., chapter 3.4: 16 bands of 8 minima). Similar documents form groups, and of
each group the first document of the corpus is kept. Which ones are dropped depends on the corpus alone.

Signatures are on disk. Memory holds 16 bytes for each of at most ``AT_ONCE`` documents, and the duplicates that are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unmask.data.corpus.corpus_parts import CorpusPart
from unmask.storage import atomic_folder

Duplicates = Literal["exact", "near"]
SIMILARITY = 0.8
SHINGLE = 5  # words, or characters of a text of fewer words
BANDS, MINIMA = 16, 8  # pairs of similarity 0.8 are compared with probability 0.95, of 0.9 with 0.9999
AT_ONCE = 2**24
_SAVED_AT_ONCE = 4096
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class SignatureJob:
    """The signatures of one part, written to ``folder``: ``signatures.npy``, ``bands.npy``, ``bytes.npy``."""

    part: CorpusPart
    folder: Path
    kind: Duplicates


def write_signatures(job: SignatureJob) -> int:
    """Write the signatures of a part in one atomic step, and return the number of its documents.

    Raises:
        ImportError: ``near`` without the package ``datasketch``.
    """
    if (job.folder / "bytes.npy").exists():
        return int(np.load(job.folder / "bytes.npy", mmap_mode="r").shape[0])
    sign = _digests if job.kind == "exact" else _minima
    sizes: list[int] = []
    with atomic_folder(job.folder) as temporary:
        with open(temporary / "signatures.bin", "wb") as signatures, open(temporary / "bands.bin", "wb") as bands:
            for texts in _batches(job.part):
                found = sign(texts)
                sizes += [len(text.encode()) for text in texts]
                signatures.write(found.tobytes())
                bands.write(_bands(found).tobytes())
        np.save(temporary / "bytes.npy", np.array(sizes, dtype=np.int64))
    return len(sizes)


def _batches(part: CorpusPart) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in part.documents():
        batch.append(document.text)
        if len(batch) == _SAVED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _digests(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the 128-bit hash of each text, uint32 ``[N, 4]``."""
    data = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(data, "<u4").reshape(-1, 4)


def shingles(text: str) -> set[str]:
    """Return the 5-grams of the lower-case words of a text; of its characters, if it has fewer words.

    Examples:
        >>> from unmask.data.duplicates import shingles
        >>> sorted(shingles("One two three four five, six."))
        ['one two three four five', 'two three four five six']
    """
    words = _WORD.findall(text.lower())
    if len(words) >= SHINGLE:
        return {" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}


def _minima(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the MinHash signature of each text, uint32 ``[N, 128]``."""
    try:
        from datasketch import MinHash
    except ImportError as error:
        raise ImportError(
            "Near-duplicates are found with the `datasketch` library, which is not installed. Type: pip install "
            "'unmask[near-duplicates]'"
        ) from error
    found = np.empty((len(texts), BANDS * MINIMA), dtype=np.uint32)
    for row, text in enumerate(texts):
        minima = MinHash(BANDS * MINIMA, seed=1)
        minima.update_batch([each.encode() for each in shingles(text)])
        found[row] = minima.hashvalues
    return found


def _bands(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of every band, uint64 ``[N, bands]``; a digest is one band."""
    rows = signatures if signatures.shape[1] == 4 else signatures.reshape(-1, MINIMA)
    words = np.ascontiguousarray(rows).view(np.uint64)
    mixed = np.zeros(len(words), dtype=np.uint64)
    for column in words.T:  # a multiplicative hash; equal hashes of different bands are told apart by the comparison
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return mixed.reshape(len(signatures), -1)


class SignatureFiles:
    """The signatures of all parts, mapped into memory and numbered through."""

    def __init__(self, folders: Sequence[Path], kind: Duplicates) -> None:
        self.width = 4 if kind == "exact" else BANDS * MINIMA
        self.bands = 1 if kind == "exact" else BANDS
        self.least = 1.0 if kind == "exact" else SIMILARITY
        self.sizes = [np.load(folder / "bytes.npy") for folder in folders]
        self.starts = np.concatenate([[0], np.cumsum([len(each) for each in self.sizes])])
        self._signatures = [
            _mapped(folder / "signatures.bin", np.uint32, self.width, len(each))
            for folder, each in zip(folders, self.sizes, strict=True)
        ]
        self._bands = [
            _mapped(folder / "bands.bin", np.uint64, self.bands, len(each))
            for folder, each in zip(folders, self.sizes, strict=True)
        ]

    def groups(self, band: int) -> Iterator[NDArray[np.int64]]:
        """Yield the documents with an equal hash of a band, in ascending order, two or more at a time."""
        total = int(self.starts[-1])
        passes = -(-total // AT_ONCE)
        for number in range(passes):  # each pass holds the documents whose hash has one remainder
            hashes, documents = [], []
            for start, each in zip(self.starts, self._bands, strict=False):
                column = np.asarray(each[:, band])
                mine = np.flatnonzero(column % np.uint64(passes) == number)
                hashes.append(column[mine])
                documents.append(start + mine)
            hashed, numbered = np.concatenate(hashes), np.concatenate(documents)
            order = np.argsort(hashed, kind="stable")
            changes = np.flatnonzero(np.diff(hashed[order])) + 1
            for start, stop in zip(np.r_[0, changes], np.r_[changes, len(order)], strict=True):
                if stop - start > 1:
                    yield numbered[order[start:stop]]

    def signatures(self, documents: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the signatures of some documents, ``[N, width]``."""
        part = np.searchsorted(self.starts, documents, side="right") - 1
        rows = [self._signatures[p][d - self.starts[p]] for p, d in zip(part, documents, strict=True)]
        return np.array(rows)


def _mapped(path: Path, dtype: Any, width: int, rows: int) -> NDArray[Any]:
    return np.memmap(path, dtype, "r", shape=(rows, width)) if rows else np.empty((0, width), dtype)


def find_duplicates(files: SignatureFiles) -> NDArray[np.int64]:
    """Return the numbers of the documents to drop, in ascending order: all of each group but its first."""
    first: dict[int, int] = {}  # a document of a group -> an earlier one of it

    def root(document: int) -> int:
        while document in first:
            if first[document] in first:
                first[document] = first[first[document]]
            document = first[document]
        return document

    for band in range(files.bands):
        for group in files.groups(band):
            kept: list[int] = []  # members of the group that are similar to no earlier one
            signed = np.empty((0, files.width), dtype=np.uint32)  # their signatures
            for some in np.array_split(group, -(-len(group) // _SAVED_AT_ONCE)):
                for document, signature in zip(some.tolist(), files.signatures(some), strict=True):
                    near = np.flatnonzero((signed == signature).mean(axis=1) >= files.least)
                    if not len(near):
                        kept.append(document)
                        signed = np.vstack([signed, signature])
                    for each in near:
                        roots = sorted((root(kept[each]), root(document)))
                        if roots[0] != roots[1]:
                            first[roots[1]] = roots[0]
    return np.array(sorted(first), dtype=np.int64)
