"""Prepare a corpus for training: a tokenizer and two token stores in one folder.

    out/arguments.json   the arguments, written first; a request with other arguments is refused
    out/split.json       the validation split, unless a separate corpus is given
    out/tokenizer.json   given, or trained on the training documents only
    out/parts/           stores of the parts of a large corpus, until they are merged (see ``preparation_steps``)
    out/train/           token store of the training documents
    out/valid/           token store of the held-out documents
    out/prepared.json    written last: the folder is complete

The validation split is a fraction of the bytes. It depends neither on the order of the documents nor on the number of
workers, and equal texts are always on the same side (see ``held_out``). The corpus is streamed, never in memory as a
whole.

A large corpus is divided into parts by file and by range (``corpus_parts``), which any number of processes and machines
tokenise. The stores have the same bytes for any number of workers, shards and restarts.

A complete folder can be reopened without its source (see ``recipe``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from unmask.data.cores import available_cores
from unmask.data.corpus.held_out import HeldOut
from unmask.data.corpus.sources import Source
from unmask.data.duplicates import Duplicates
from unmask.data.engines import ENGINES
from unmask.data.preparation_request import PreparationRequest
from unmask.data.preparation_steps import Progress as Progress
from unmask.data.preparation_steps import Steps
from unmask.data.recipe import claim
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.storage import read_json, write_json

DEFAULT_SHARD_TOKENS = 2**25


@dataclass(frozen=True)
class Prepared:
    """A complete prepared folder.

    Attributes:
        folder: path of the folder.
        train_documents, train_tokens, train_bytes: size of the training store. Tokens count one EOS per document; bytes
            are of UTF-8.
        valid_documents, valid_tokens, valid_bytes: size of the validation store.
        vocab_size: number of ids of the tokenizer.
        dropped_documents, dropped_bytes: number and size of the duplicates left out of the source (``drop_duplicates``).

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
    dropped_documents: int = 0
    dropped_bytes: int = 0

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
    drop_duplicates: Duplicates | None = None,
    engine: str = "processes",
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
        workers: processes that read and tokenise (None = one per core); the result does not depend on it.
        shard_tokens: tokens per shard of the stores.
        seed: seed of the validation split.
        progress: called with ``(documents done, total documents or None, stage)``; stages are ``"tokenizer"``,
            ``"train"`` and ``"valid"``, and for large corpora ``"duplicates"``, ``"split"`` and ``"merge"``.
        special_ids: ids of the special tokens of ready ids by role, such as ``{"mask": 0, "pad": 1, "eos": 2}``; the tokenizer is
            ``ids`` then, and ``vocab_size`` the number of all ids. None = the tokenizer chooses them.
        drop_duplicates: leave out documents of the source that repeat earlier ones: ``exact`` = equal texts, ``near`` = nearly equal
            texts (``unmask.data.duplicates``). The first one is kept. None = keep all.
        engine: a name of ``unmask.data.engines.ENGINES``: ``processes`` of this machine, or ``ray``.

    Returns:
        The paths and sizes of the prepared folder.

    Raises:
        ImportError: ``near`` without ``datasketch``, or ``ray`` without Ray.
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
    request = PreparationRequest.of(
        source, out, tokenizer, vocab_size, valid_fraction, valid_source, shard_tokens, seed, special_ids, drop_duplicates
    )  # fmt: skip
    steps = _steps(request, workers, engine, progress)
    with _hold(request.out):
        begun = _begin(steps)
        if isinstance(begun, Prepared):
            return begun
        if not steps.divided:
            return _finish(steps, begun, steps.write_whole(begun.split, begun.tokenizer, begun.total))
        steps.write(steps.jobs(begun.split))
        return _finish(steps, begun, steps.merge(begun.tokenizer))


@dataclass(frozen=True)
class PreparedShard:
    """The result of one shard of a preparation.

    Attributes:
        shard: its number, from 1, and the number of all shards.
        parts: number of stores of parts that this shard is responsible for; all of them are written.
        missing: number of stores of parts that other shards have not written yet.
        prepared: the complete folder, if this shard was the last and merged it; else None.
    """

    shard: tuple[int, int]
    parts: int
    missing: int
    prepared: Prepared | None


def prepare_shard(
    source: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    shard: tuple[int, int],
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
    drop_duplicates: Duplicates | None = None,
    engine: str = "processes",
) -> PreparedShard:
    """Do one of ``n`` shares of :func:`prepare`, as a task of an array job on several machines that share the folder.

    The first task makes the split and the tokenizer while the others wait. Each task then writes its own parts, and the one that
    finds all parts written merges them. :func:`prepare` with the same arguments finishes whatever is missing.

    Args:
        source, out: as of :func:`prepare`; all machines see both under the same paths.
        shard: number of this share, from 1, and the number of shares. The result does not depend on the number.

    Other Parameters:
        tokenizer, vocab_size, valid_fraction, valid_source, shard_tokens, seed, special_ids, drop_duplicates: as of :func:`prepare`,
            the same for every share.
        workers, progress, engine: as of :func:`prepare`.

    Raises:
        ValueError: a number of the shard outside of ``1..n``, or an error of :func:`prepare`.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ValueError(
            f"The shard {number}/{count} does not exist: the first is 1/{count} and the last {count}/{count}. In a SLURM array "
            f"job write #SBATCH --array=1-{max(1, count)} and --shard $SLURM_ARRAY_TASK_ID/{max(1, count)}."
        )
    request = PreparationRequest.of(
        source, out, tokenizer, vocab_size, valid_fraction, valid_source, shard_tokens, seed, special_ids, drop_duplicates
    )  # fmt: skip
    steps = _steps(request, workers, engine, progress)
    with _hold(request.out):
        begun = _begin(steps)
    if isinstance(begun, Prepared):
        return PreparedShard(shard, 0, 0, begun)
    own = steps.jobs(begun.split)[number - 1 :: count]
    steps.write(own)
    with _hold(request.out):
        if (request.out / "prepared.json").exists():
            return PreparedShard(shard, len(own), 0, Prepared.open(request.out))
        missing = sum(not job.done for job in steps.jobs(begun.split))
        prepared = None if missing else _finish(steps, begun, steps.merge(begun.tokenizer))
    return PreparedShard(shard, len(own), missing, prepared)


def _steps(request: PreparationRequest, workers: int | None, engine: str, progress: Progress | None) -> Steps:
    if workers is not None and workers < 1:
        raise ValueError(f"workers ({workers}) must be at least 1.")
    report = progress or (lambda done, total, stage: None)
    return Steps(request, workers or available_cores(), ENGINES.choose(engine), report)


@contextmanager
def _hold(out: Path) -> Iterator[None]:
    """Lock a folder; other processes that prepare it wait."""
    home = out.resolve()
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_name(f".{home.name}.lock")):
        yield


@dataclass(frozen=True)
class _Begun:
    """What is known before documents are tokenised."""

    split: HeldOut | None
    tokenizer: Tokenizer
    total: int | None
    dropped: Mapping[str, int]


def _begin(steps: Steps) -> Prepared | _Begun:
    """Claim the folder, and do or repeat the steps that precede tokenisation; a complete folder is returned."""
    request = steps.request
    steps.sweep()
    claim(request.out, dict(request.arguments), request.recipe)
    if (request.out / "prepared.json").exists():
        shutil.rmtree(steps.parts_folder, ignore_errors=True)  # an earlier call was killed after the merge
        return Prepared.open(request.out)
    for each in (request.source, request.valid_source):
        if each is not None:
            each.warn_left_out()
    dropped = steps.drop_duplicates()
    split = steps.find_split()
    tokenizer, total = steps.make_tokenizer(split)
    return _Begun(split, tokenizer, total, dropped)


def _finish(steps: Steps, begun: _Begun, stores: list[TokenStore]) -> Prepared:
    train, valid = stores
    prepared = Prepared(
        folder=steps.out,
        train_documents=train.n_documents,
        train_tokens=train.n_tokens,
        train_bytes=int(train.document_bytes.sum()),
        valid_documents=valid.n_documents,
        valid_tokens=valid.n_tokens,
        valid_bytes=int(valid.document_bytes.sum()),
        vocab_size=len(begun.tokenizer),
        **begun.dropped,
    )
    write_json(steps.out / "prepared.json", {key: value for key, value in asdict(prepared).items() if key != "folder"})
    shutil.rmtree(steps.parts_folder, ignore_errors=True)
    return prepared
