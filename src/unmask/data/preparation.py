"""Prepare a corpus for training: a tokenizer and two token stores in one folder.

    out/arguments.json   the arguments, written first; a request with other arguments is refused
    out/split.json       the validation split, unless a separate corpus is given
    out/tokenizer.json   given, or trained on the training documents only
    out/train/           token store of the training documents
    out/valid/           token store of the held-out documents
    out/prepared.json    written last: the folder is complete

The validation split is a fraction of the bytes. It depends neither on the order of the documents nor on the number of
workers, and equal texts are always on the same side (see ``held_out``). The corpus is streamed, never in memory as a
whole.

A complete folder can be reopened without its source (see ``recipe``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from unmask.contracts import SpecialIds
from unmask.data.cores import available_cores
from unmask.data.corpus.held_out import HeldOut
from unmask.data.corpus.row_shapes import row_fields
from unmask.data.corpus.sources import Source
from unmask.data.document import Document
from unmask.data.recipe import Recipe, claim
from unmask.data.store.token_store import TokenStore
from unmask.data.store.writer import write_store
from unmask.data.tokenizing.kinds import ONLY_IDS, TOKENIZER_KINDS, train_tokenizer
from unmask.data.tokenizing.number_tokens import check_special_ids, without_ends
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.storage import read_json, sweep_temporaries, write_json

TOKENIZER_TRAINING_CHARACTERS = 2**28  # the tokenizer is trained on this many characters from the start of the corpus
DEFAULT_SHARD_TOKENS = 2**25

Progress = Callable[[int, int | None, str], None]  # documents done, total documents or None, stage


@dataclass(frozen=True)
class Prepared:
    """A complete prepared folder.

    Attributes:
        folder: path of the folder.
        train_documents, train_tokens, train_bytes: size of the training store. Tokens count one EOS per document; bytes
            are of UTF-8.
        valid_documents, valid_tokens, valid_bytes: size of the validation store.
        vocab_size: number of ids of the tokenizer.

    Examples:
        >>> from pathlib import Path
        >>> prepared = Prepared(Path("data"), 90, 900, 4000, 10, 100, 450, 300)
        >>> prepared.train.as_posix(), prepared.tokenizer.as_posix()
        ('data/train', 'data/tokenizer.json')
    """

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
        """Path of the training store."""
        return self.folder / "train"

    @property
    def valid(self) -> Path:
        """Path of the validation store."""
        return self.folder / "valid"

    @property
    def tokenizer(self) -> Path:
        """Path of the tokenizer."""
        return self.folder / "tokenizer.json"

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Prepared:
        """Open a folder that ``prepare`` completed.

        Args:
            folder: the ``out`` of ``prepare``.

        Raises:
            ValueError: the folder holds no complete prepared corpus.
        """
        path = Path(folder) / "prepared.json"
        if not path.exists():
            interrupted = (Path(folder) / "arguments.json").exists()
            raise ValueError(
                f"{folder} holds no prepared corpus"
                + (": its preparation was interrupted. Run the same command again to finish it." if interrupted else
                   f". Create one with `unmask prepare SOURCE --out {folder}`.")
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
    special_ids: Mapping[str, int] | None = None,
) -> Prepared:
    """Tokenise a corpus into training and validation stores.

    An interrupted call continues where it stopped; a call after success does nothing. Processes with the same ``out``,
    such as the ranks of a run, wait for the first one and use its result.

    Args:
        source: a file, a folder, ``owner/name`` on the Hugging Face hub, a built-in corpus, or a ``Source``.
        out: folder for the result.

    Other Parameters:
        tokenizer: a kind to train (``unmask.data.tokenizing.kinds.TOKENIZER_KINDS``, such as ``characters``), a path, a hub name,
            or a ``Tokenizer``. None trains a byte-level BPE, or builds a trace tokenizer if the source is instruction traces.
        vocab_size: largest vocabulary of the tokenizer to train; ignored for a given tokenizer.
        valid_fraction: fraction of the bytes to hold out, in (0, 1). Ignored with ``valid_source`` and for a corpus with its
            own split (traces). If the corpus allows no split within a tenth of the fraction, a warning states the actual one.
        valid_source: a separate validation corpus.
        workers: processes that tokenise (None = one per core); the result does not depend on it.
        shard_tokens: tokens per shard of the stores.
        seed: seed of the validation split.
        progress: called with ``(documents done, total documents or None, stage)``; stages are ``"tokenizer"``,
            ``"train"`` and ``"valid"``.
        special_ids: ids of the special tokens of ready ids by role, such as ``{"mask": 0, "pad": 1, "eos": 2}``; the tokenizer is
            ``ids`` then, and ``vocab_size`` the number of all ids. None = the tokenizer chooses them.

    Returns:
        The paths and sizes of the prepared folder.

    Raises:
        ValueError: the source is missing, empty, or a single document that cannot be split; the folder was prepared
            with other arguments; or the tokenizer has no mask, pad or EOS token.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from unmask import prepare
        >>> with TemporaryDirectory() as folder:
        ...     text = Path(folder) / "lines.txt"
        ...     _ = text.write_text("\\n".join(f"line {n} of the corpus" for n in range(200)))
        ...     prepared = prepare(f"{text}", f"{folder}/data", vocab_size=300, valid_fraction=0.1, workers=1)
        ...     prepared.vocab_size, prepared.train.name
        (300, 'train')
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(
            f"valid_fraction is {valid_fraction}; it is the fraction of the bytes to hold out, between 0 and 1, like "
            "0.05."
        )
    if shard_tokens < 1 or (workers is not None and workers < 1):
        raise ValueError(f"shard_tokens ({shard_tokens}) and workers ({workers}) must be at least 1.")
    if special_ids is not None:
        tokenizer = "ids" if tokenizer is None else tokenizer
        if tokenizer != "ids":
            raise ValueError(f"special_ids are those of ready ids, and the tokenizer is {tokenizer!r}. {ONLY_IDS}")
        check_special_ids(special_ids, vocab_size)
    out = Path(out)
    source = Source.parse(source)
    separate = None if valid_source is None else Source.parse(valid_source)
    kind = (
        "bpe"
        if tokenizer is None
        else tokenizer
        if isinstance(tokenizer, str) and tokenizer in TOKENIZER_KINDS
        else None
    )
    given = None
    if tokenizer is not None and kind is None:
        given = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.load(tokenizer)
    if given is not None:
        SpecialIds.of(given).require("pad", "eos")
    fingerprint = source.fingerprint()
    valid_fingerprint = fingerprint if separate is None else separate.fingerprint()
    arguments: dict[str, Any] = {
        "source": fingerprint,
        "tokenizer": None if given is None else given.fingerprint,
        "vocab_size": vocab_size if given is None else None,
        "valid_source": None if separate is None else valid_fingerprint,
        "valid_fraction": valid_fraction if separate is None else None,
        "seed": seed if separate is None else None,
        "shard_tokens": shard_tokens,
    }
    if separate is not None and separate.supervised != source.supervised:
        raise ValueError("One of source and valid_source is supervised and the other is text. Both have one kind.")
    if source.supervised and given is not None and given.settings.get("chat_template"):
        arguments["chat_template"] = given.settings["chat_template"]
    if kind not in (None, "bpe"):
        arguments["tokenizer_kind"] = kind
    if special_ids is not None:
        arguments["special_ids"] = dict(special_ids)
    recipe = Recipe.of(
        source,
        separate,
        tokenizer,
        vocab_size=vocab_size,
        valid_fraction=valid_fraction,
        seed=seed,
        special_ids=special_ids,
    )
    home = out.resolve()
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_name(f".{home.name}.lock")):
        for folder in (out, out / "train", out / "valid"):
            sweep_temporaries(folder)  # of killed processes: this one alone writes here
        claim(out, arguments, recipe)
        if (out / "prepared.json").exists():
            return Prepared.open(out)

        report = progress or (lambda done, total, stage: None)
        for each in (source, separate):
            if each is not None:
                each.warn_left_out()
        if separate is None:
            split = _load_or_find_split(out / "split.json", source, valid_fraction, seed)
            training, validation = split.training, split.validation
        else:
            training, validation = source.documents, separate.documents
        if special_ids is not None:
            training, validation = (
                partial(_without_ends, documents, vocab_size, special_ids) for documents in (training, validation)
            )
        used, count = _load_or_train_tokenizer(
            out / "tokenizer.json",
            given or ("traces" if source.kind == "traces" else str(kind)),
            vocab_size,
            training(),
            report,
            row_fields if source.supervised else lambda text: [text],
            special_ids,
        )

        def write(stage: str, documents: Iterator[Document], fingerprint: str, total: int | None) -> TokenStore:
            return write_store(
                out / stage,
                documents,
                used,
                source=fingerprint,
                shard_tokens=shard_tokens,
                workers=workers or available_cores(),
                round_trip=stage == "valid",
                supervised=source.supervised,
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


def _without_ends(
    documents: Callable[[], Iterator[Document]], vocab_size: int, special_ids: Mapping[str, int]
) -> Iterator[Document]:
    return without_ends(documents(), vocab_size, special_ids)


def _load_or_find_split(path: Path, source: Source, fraction: float, seed: int) -> HeldOut:
    """Load the split of an earlier attempt, or choose and save one."""
    if path.exists():
        split = HeldOut.from_dict(source, seed, read_json(path))
    else:
        split = HeldOut.find(source, fraction, seed)
        write_json(path, split.as_dict())
    split.warn_if_far()
    return split


def _load_or_train_tokenizer(
    path: Path,
    wanted: Tokenizer | str,
    vocab_size: int,
    training: Iterator[Document],
    report: Progress,
    texts_of: Callable[[str], list[str]],
    special_ids: Mapping[str, int] | None = None,
) -> tuple[Tokenizer, int | None]:
    """Load the tokenizer of an earlier attempt, save the given one, or train one of a kind (or of ``"traces"``).

    Returns:
        The tokenizer, and the number of training documents if training read all of them.
    """
    if path.exists():
        return Tokenizer.load(path), None
    if isinstance(wanted, Tokenizer):
        wanted.save(path)
        return Tokenizer.load(path), None
    limit = None if wanted != "traces" and TOKENIZER_KINDS[wanted].reads_all else TOKENIZER_TRAINING_CHARACTERS
    done = characters = 0
    complete = True

    def texts() -> Iterator[str]:
        nonlocal done, characters, complete
        for document in training:
            if limit is not None and characters >= limit:
                complete = False
                return
            done += 1
            characters += len(document.text)
            report(done, None, "tokenizer")
            yield from texts_of(document.text)

    trained = (
        trace_tokenizer(texts(), vocab_size)
        if wanted == "traces"
        else train_tokenizer(wanted, texts(), vocab_size, special_ids)
    )
    trained.save(path)
    return Tokenizer.load(path), done if complete else None
