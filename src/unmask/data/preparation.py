"""From a source to everything training needs: a tokenizer and two token stores, in one folder.

    out/arguments.json   what was asked for, written first: another request in the same folder is refused
    out/split.json       what is held out, unless that is a corpus of its own
    out/tokenizer.json   given, or trained on the training documents only
    out/train/           token store of the training documents
    out/valid/           token store of the held-out documents
    out/prepared.json    written last: the folder is complete

The share held out is of the bytes. Neither the order of the documents nor the number of workers changes it, and equal
texts always land on the same side (see ``held_out``). The corpus is streamed, never held.

A complete folder stands for itself: it is opened again where its source is gone (see ``recipe``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from unmask.contracts import SpecialIds
from unmask.data.corpus.held_out import HeldOut
from unmask.data.corpus.sources import Source
from unmask.data.document import Document
from unmask.data.recipe import Recipe, claim
from unmask.data.store.token_store import TokenStore
from unmask.data.store.writer import write_store
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.storage import read_json, write_json

TOKENIZER_TRAINING_CHARACTERS = 2**28  # the tokenizer learns from this much text from the front of the corpus
DEFAULT_SHARD_TOKENS = 2**25

Progress = Callable[[int, int | None, str], None]  # documents done, documents in all or None, stage


@dataclass(frozen=True)
class Prepared:
    """A finished folder: where its parts are and how much text they hold."""

    folder: Path
    train_documents: int
    train_tokens: int
    train_bytes: int
    valid_documents: int
    valid_tokens: int
    valid_bytes: int
    vocab_size: int

    @property
    def train(self) -> Path:
        return self.folder / "train"

    @property
    def valid(self) -> Path:
        return self.folder / "valid"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Prepared:
        """Read what ``prepare`` left in a folder.

        Raises:
            ValueError: it holds no complete prepared corpus.
        """
        path = Path(folder) / "prepared.json"
        if not path.exists():
            begun = (Path(folder) / "arguments.json").exists()
            raise ValueError(
                f"{folder} holds no prepared corpus"
                + (": preparing it was interrupted. Run the same command again to finish it." if begun else
                   f". Make one with `unmask prepare SOURCE --out {folder}`.")
            )  # fmt: skip
        try:
            return cls(Path(folder), **read_json(path))
        except TypeError as error:
            raise ValueError(
                f"{path} was written by another version of unmask ({error}). Prepare the corpus into a new folder."
            ) from error


def prepare(
    source: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | Tokenizer | None = None,
    vocab_size: int = 8192,
    valid_fraction: float = 0.05,
    valid_source: str | os.PathLike[str] | Source | None = None,
    workers: int | None = None,
    shard_tokens: int = DEFAULT_SHARD_TOKENS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """Tokenise a corpus; run again after an interruption it continues, after success it does nothing.

    Processes that ask for the same folder at once, such as the ranks of a run, wait for the first and share its work.

    Args:
        source: what to read; anything ``Source.parse`` takes.
        out: the folder to fill.
        tokenizer: one to use (a path, a hub name, or the object); None trains a byte-level BPE, or makes a trace tokenizer
            where the source is instruction traces.
        vocab_size: size of the tokenizer to train; not read when one is given.
        valid_fraction: share of the bytes to hold out, in (0, 1); not read when ``valid_source`` is given, or where
            the corpus is divided already (traces). A warning says so where the corpus allows no share within a tenth of it.
        valid_source: the held-out corpus, if it is a separate one.
        workers: processes that tokenise (None = one per core); the result is the same for any number.
        shard_tokens: tokens per shard of the stores.
        seed: chooses which documents are held out.
        progress: called with ``(documents done, documents in all or None, stage)``, where the stage is
            ``"tokenizer"``, ``"train"`` or ``"valid"``.

    Raises:
        ValueError: the source is missing, empty, or a single document that cannot be split; the folder was made
            with other arguments; the tokenizer has no mask, pad or EOS token.
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(
            f"valid_fraction is {valid_fraction}; it is the share of the bytes to hold out, between 0 and 1, like 0.05."
        )
    if shard_tokens < 1 or (workers is not None and workers < 1):
        raise ValueError(f"shard_tokens ({shard_tokens}) and workers ({workers}) must be at least 1.")
    out = Path(out)
    source = Source.parse(source)
    separate = None if valid_source is None else Source.parse(valid_source)
    given = tokenizer if tokenizer is None or isinstance(tokenizer, Tokenizer) else Tokenizer.load(tokenizer)
    if given is not None:
        SpecialIds.of(given).require("pad", "eos")
    fingerprint = source.fingerprint()
    valid_fingerprint = fingerprint if separate is None else separate.fingerprint()
    arguments = {
        "source": fingerprint,
        "tokenizer": None if given is None else given.fingerprint,
        "vocab_size": vocab_size if given is None else None,
        "valid_source": None if separate is None else valid_fingerprint,
        "valid_fraction": valid_fraction if separate is None else None,
        "seed": seed if separate is None else None,
        "shard_tokens": shard_tokens,
    }
    recipe = Recipe.of(source, separate, tokenizer, vocab_size=vocab_size, valid_fraction=valid_fraction, seed=seed)
    home = out.resolve()
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_name(f".{home.name}.lock")):
        claim(out, arguments, recipe)
        if (out / "prepared.json").exists():
            return Prepared.open(out)

        report = progress or (lambda done, total, stage: None)
        for each in (source, separate):
            if each is not None:
                each.warn_left_out()
        split = _settle_split(out / "split.json", source, valid_fraction, seed) if separate is None else None
        training = source.documents if split is None else split.training
        validation = separate.documents if separate is not None else split.validation  # type: ignore[union-attr]
        used, count = _settle_tokenizer(
            out / "tokenizer.json", given, vocab_size, training(), report, source.kind == "traces"
        )

        def write(stage: str, documents: Iterator[Document], fingerprint: str, total: int | None) -> TokenStore:
            return write_store(
                out / stage,
                documents,
                used,
                source=fingerprint,
                shard_tokens=shard_tokens,
                workers=workers or _cores(),
                round_trip=stage == "valid",
                progress=lambda done: report(done, total, stage),
            )

        train = write("train", training(), fingerprint, count)
        valid = write("valid", validation(), valid_fingerprint, None)
        prepared = Prepared(
            folder=out,
            train_documents=train.n_documents,
            train_tokens=train.n_tokens,
            train_bytes=int(train.document_bytes.sum()),
            valid_documents=valid.n_documents,
            valid_tokens=valid.n_tokens,
            valid_bytes=int(valid.document_bytes.sum()),
            vocab_size=len(used),
        )
        write_json(out / "prepared.json", {key: value for key, value in asdict(prepared).items() if key != "folder"})
        return prepared


def _settle_split(path: Path, source: Source, fraction: float, seed: int) -> HeldOut:
    """The split at ``path``, or found now unless an earlier attempt did."""
    if path.exists():
        split = HeldOut.from_dict(source, seed, read_json(path))
    else:
        split = HeldOut.find(source, fraction, seed)
        write_json(path, split.as_dict())
    split.warn_if_far()
    return split


def _settle_tokenizer(
    path: Path, given: Tokenizer | None, vocab_size: int, training: Iterator[Document], report: Progress, traces: bool
) -> tuple[Tokenizer, int | None]:
    """The tokenizer at ``path``: the given one, or trained now unless an earlier attempt did; and the number of
    training documents, if they were all read on the way."""
    if path.exists():
        return Tokenizer.load(path), None
    if given is not None:
        given.save(path)
        return Tokenizer.load(path), None
    done = characters = 0
    whole = True

    def texts() -> Iterator[str]:
        nonlocal done, characters, whole
        for document in training:
            if characters >= TOKENIZER_TRAINING_CHARACTERS:
                whole = False
                return
            done += 1
            characters += len(document.text)
            report(done, None, "tokenizer")
            yield document.text

    trained = trace_tokenizer(texts(), vocab_size) if traces else Tokenizer.train(texts(), vocab_size)
    trained.save(path)
    return Tokenizer.load(path), done if whole else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
