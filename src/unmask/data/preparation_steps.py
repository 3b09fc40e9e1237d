"""The steps of a preparation, each of which continues where an earlier attempt stopped.

    duplicates   parts/*/signatures → parts/*/dropped.npy, duplicates.json
    split        parts/sketch.json → split.json
    tokenizer    tokenizer.json
    parts        parts/*/train, parts/*/valid: a token store of each part, written by any process
    merge        train, valid

A corpus of a single part is tokenised into ``train`` and ``valid`` directly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock

from unmask.data.corpus.byte_fraction import ByteSketch
from unmask.data.corpus.corpus_parts import Corpus, CorpusPart
from unmask.data.corpus.held_out import HeldOut, measured
from unmask.data.corpus.row_shapes import row_fields
from unmask.data.document import Document
from unmask.data.duplicates import SignatureFiles, SignatureJob, find_duplicates, write_signatures
from unmask.data.engines import Engine, in_processes
from unmask.data.preparation_request import PreparationRequest
from unmask.data.store.token_store import MANIFEST, TokenStore
from unmask.data.store.writer import WriteOptions, merge_stores, write_part, write_store
from unmask.data.tokenizing.kinds import TOKENIZER_KINDS, train_tokenizer
from unmask.data.tokenizing.number_tokens import without_ends
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.storage import atomic_file, read_json, sweep_temporaries, write_json

TOKENIZER_TRAINING_CHARACTERS = 2**28  # the tokenizer is trained on this many characters from the start of the corpus
Progress = Callable[[int, int | None, str], None]  # documents done, total documents or None, stage
Stage = Literal["train", "valid"]
SPAWNED = frozenset(("text", "jsonl", "csv", "tsv", "parquet", "arrow", "fasta", "a3m", "npy", "traces"))
"""Formats that every process has; a registered one is known to its own process only."""


@dataclass(frozen=True)
class PartJob:
    """The tokenisation of one side of one part, by a process that shares nothing but the folder with the others."""

    folder: Path
    stage: Stage
    part: CorpusPart
    split: HeldOut | None
    tokenizer: Path
    options: WriteOptions
    special_ids: Mapping[str, int] | None
    vocab_size: int
    workers: int

    @property
    def done(self) -> bool:
        """Whether the part is written."""
        return (self.folder / MANIFEST).is_file()

    def documents(self) -> Iterator[Document]:
        """Yield the documents of this side of the part."""
        return side(self.part, self.split, self.stage, self.special_ids, self.vocab_size)


def write_job(job: PartJob) -> int:
    """Tokenise a part, or finish it; return the number of its documents."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder.with_name(f".{job.stage}.lock")):
        return write_part(job.folder, job.documents(), _tokenizer(job.tokenizer), job.options, job.workers)


@lru_cache(1)
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.load(path)


def side(
    corpus: Corpus | CorpusPart,
    split: HeldOut | None,
    stage: Stage,
    special_ids: Mapping[str, int] | None,
    vocab_size: int,
) -> Iterator[Document]:
    """Yield the documents of a corpus that belong to one store; all of them without a split."""
    if split is None:
        documents = corpus.documents()
    else:
        own = replace(split, source=corpus)
        documents = own.training() if stage == "train" else own.validation()
    return documents if special_ids is None else without_ends(documents, vocab_size, special_ids)


@dataclass(frozen=True)
class MeasureJob:
    """The bytes of one part by position of its documents; see ``byte_fraction``."""

    part: CorpusPart
    fraction: float
    seed: int
    piece: int | None


def measure_part(job: MeasureJob) -> dict[str, Any]:
    """Return the sketch of a part as a JSON object."""
    return measured(job.part, job.fraction, job.seed, job.piece).as_dict()


class Steps:
    """The steps of one request; all but the writing of parts need the lock of the folder.

    Args:
        request: the request.
        workers: number of processes.
        engine: runs the jobs.
        report: callback ``(documents done, total or None, stage)``.
    """

    def __init__(self, request: PreparationRequest, workers: int, engine: Engine, report: Progress) -> None:
        self.request = request
        self.out = request.out
        self.workers = workers
        self.engine: Engine = engine if request.source.kind in SPAWNED else in_processes
        self.processes: int = (
            workers if request.source.kind in SPAWNED else 1
        )  # of jobs; each has `workers` of its own then
        self.report = report
        self.corpus: Corpus = Corpus.of(request.source)
        self.valid_corpus: Corpus | None = None if request.valid_source is None else Corpus.of(request.valid_source)
        self.parts_folder: Path = request.out / "parts"
        self.divided: bool = any(len(each.parts) > 1 for each in (self.corpus, self.valid_corpus) if each is not None)

    def sweep(self) -> None:
        """Delete temporary files of killed processes, where no other process writes."""
        for folder in (self.out, self.out / "train", self.out / "valid", self.parts_folder):
            sweep_temporaries(folder)

    def drop_duplicates(self) -> dict[str, int]:
        """Find duplicates and leave them out of the corpus; return how many, and their bytes."""
        kind, parts = self.request.drop_duplicates, self.corpus.parts
        if kind is None:
            return {}
        folders = [self._of_part(number) for number in range(len(parts))]
        saved = self.out / "duplicates.json"
        if not saved.exists():
            jobs = [
                SignatureJob(part, folder / "signatures", kind) for part, folder in zip(parts, folders, strict=True)
            ]
            done = 0
            for count in self.engine(write_signatures, jobs, self.processes):
                done += count
                self.report(done, None, "duplicates")
            files = SignatureFiles([job.folder for job in jobs], kind)
            dropped = find_duplicates(files)
            total = 0
            for number, folder in enumerate(folders):
                own = dropped[(dropped >= files.starts[number]) & (dropped < files.starts[number + 1])]
                own = own - files.starts[number]
                total += int(files.sizes[number][own].sum())
                with atomic_file(folder / "dropped.npy") as temporary, open(temporary, "wb") as file:
                    np.save(file, own)
            write_json(saved, {"dropped_documents": len(dropped), "dropped_bytes": total})
        self.corpus = self.corpus.without([folder / "dropped.npy" for folder in folders])
        counts: dict[str, int] = read_json(saved)
        return counts

    def find_split(self) -> HeldOut | None:
        """Load the split of an earlier attempt, or choose and save one; None with a separate validation corpus."""
        request, path = self.request, self.out / "split.json"
        if self.valid_corpus is not None:
            return None
        if path.exists():
            split = HeldOut.from_dict(self.corpus, request.seed, read_json(path))
        else:
            split = HeldOut.find(self.corpus, request.valid_fraction, request.seed, self._measure)
            write_json(path, split.as_dict())
        split.warn_if_far()
        return split

    def _measure(self, piece: int | None) -> ByteSketch:
        """Measure all parts; the sketch of the first ones is on disk, where another attempt continues."""
        fraction, seed = self.request.valid_fraction, self.request.seed
        if len(self.corpus.parts) == 1:
            return measured(self.corpus, fraction, seed, piece)
        saved, sketch, first = self.parts_folder / "sketch.json", ByteSketch(fraction), 0
        if saved.exists() and (before := read_json(saved))["piece"] == piece:
            sketch, first = ByteSketch.from_dict(before["sketch"]), before["parts"]
        jobs = [MeasureJob(part, fraction, seed, piece) for part in self.corpus.parts[first:]]
        for number, found in enumerate(self.engine(measure_part, jobs, self.processes), start=first + 1):
            sketch.include(ByteSketch.from_dict(found))
            self.report(sketch.documents, None, "split")
            write_json(saved, {"piece": piece, "parts": number, "sketch": sketch.as_dict()})
        if not sketch.documents:
            raise self.request.source.is_empty()
        return sketch

    def make_tokenizer(self, split: HeldOut | None) -> tuple[Tokenizer, int | None]:
        """Load the tokenizer of an earlier attempt, save the given one, or train one on the training documents.

        Returns:
            The tokenizer, and the number of training documents if training read all of them.
        """
        path, wanted, request = self.out / "tokenizer.json", self.request.tokenizer, self.request
        if path.exists():
            return Tokenizer.load(path), None
        if isinstance(wanted, Tokenizer):
            wanted.save(path)
            return Tokenizer.load(path), None
        limit = None if wanted != "traces" and TOKENIZER_KINDS[wanted].reads_all else TOKENIZER_TRAINING_CHARACTERS
        texts_of = row_fields if request.source.supervised else lambda text: [text]
        done = characters = 0
        complete = True

        def texts() -> Iterator[str]:
            nonlocal done, characters, complete
            for document in side(self.corpus, split, "train", request.special_ids, request.vocab_size):
                if limit is not None and characters >= limit:
                    complete = False
                    return
                done += 1
                characters += len(document.text)
                self.report(done, None, "tokenizer")
                yield from texts_of(document.text)

        trained = (
            trace_tokenizer(texts(), request.vocab_size)
            if wanted == "traces"
            else train_tokenizer(wanted, texts(), request.vocab_size, request.special_ids)
        )
        trained.save(path)
        return Tokenizer.load(path), done if complete else None

    def write_whole(self, split: HeldOut | None, tokenizer: Tokenizer, total: int | None) -> list[TokenStore]:
        """Tokenise a corpus of one part; return its stores."""
        stores = []
        for stage, corpus, of_stage in self._stages():
            options = self._options(stage)
            stores.append(
                write_store(
                    self.out / stage,
                    side(corpus, split, stage, self.request.special_ids, self.request.vocab_size),
                    tokenizer,
                    source=options.source,
                    shard_tokens=options.shard_tokens,
                    workers=self.workers,
                    round_trip=options.round_trip,
                    supervised=options.supervised,
                    progress=_reporting(self.report, total if of_stage else None, stage),
                )
            )
        return stores

    def jobs(self, split: HeldOut | None) -> list[PartJob]:
        """Return the tokenisation of every side of every part."""
        jobs = []
        for stage, corpus, _ in self._stages():
            options, count = self._options(stage), len(corpus.parts)
            for number, part in enumerate(corpus.parts):
                own = replace(options, source=f"{options.source}:{part.fingerprint}")
                inner = self.workers if self.processes == 1 else max(1, self.workers // min(self.workers, count))
                jobs.append(
                    PartJob(
                        self._of_part(number) / stage, stage, part, None if split is None else replace(split, source=part),
                        self.out / "tokenizer.json", own, self.request.special_ids, self.request.vocab_size, inner,
                    )
                )  # fmt: skip
        return jobs

    def write(self, jobs: Sequence[PartJob]) -> None:
        """Write parts that are not written yet."""
        for stage, group in itertools.groupby(jobs, key=lambda job: job.stage):
            done = 0
            for count in self.engine(write_job, [job for job in group if not job.done], self.processes):
                done += count
                self.report(done, None, stage)

    def merge(self, tokenizer: Tokenizer) -> list[TokenStore]:
        """Merge the parts into two stores, and return them."""
        return [
            merge_stores(
                self.out / stage,
                [self._of_part(number) / stage for number in range(len(corpus.parts))],
                tokenizer,
                self._options(stage),
                _reporting(self.report, None, "merge"),
            )
            for stage, corpus, _ in self._stages()
        ]

    def _stages(self) -> list[tuple[Stage, Corpus, bool]]:
        """Return the two stores, their corpora, and whether the number of documents may be known."""
        return [("train", self.corpus, True), ("valid", self.valid_corpus or self.corpus, False)]

    def _options(self, stage: Stage) -> WriteOptions:
        request = self.request
        source = request.arguments["source" if stage == "train" or request.valid_source is None else "valid_source"]
        return WriteOptions(source, request.shard_tokens, stage == "valid", request.source.supervised)

    def _of_part(self, number: int) -> Path:
        return self.parts_folder / f"{number:05d}"


def _reporting(report: Progress, total: int | None, stage: str) -> Callable[[int], None]:
    return lambda done: report(done, total, stage)
