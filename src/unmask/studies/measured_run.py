"""``MeasuredRun``: the likelihood bound of one run by document, and what makes it comparable with another.

Masks depend on (seed, pass, window) alone, so two runs measured with one seed on one validation split hide the same tokens of every document.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unmask.contracts import SpecialIds
from unmask.data.corpus.sources import Source
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.evaluate.likelihood import Nelbo, nelbo
from unmask.evaluate.windows import Windows
from unmask.storage import atomic_file
from unmask.text.answer_matching import Stages
from unmask.text.evaluation_setting import Evaluable, evaluation_setting


@dataclass(frozen=True)
class MeasuredRun:
    """The likelihood bound of one run.

    Attributes:
        run: path of the run.
        bound: nats, tokens, bytes and words by document.
        texts: uint64 ``[D]``, digest of the text of each document.
        ids: digest of the ids of all documents.
        tokenizer: fingerprint of the tokenizer.
        noise: seed of the masks, and passes over the documents.
    """

    run: str
    bound: Nelbo
    texts: NDArray[np.uint64]
    ids: str
    tokenizer: str
    noise: tuple[int, int]

    def save(self, path: Path) -> None:
        """Write the measurement to a file of NumPy arrays.

        Args:
            path: ``*.npz``.
        """
        exact = self.bound.exact
        about = {"run": self.run, "ids": self.ids, "tokenizer": self.tokenizer, "noise": self.noise,
                 "unscored": self.bound.unscored}  # fmt: skip
        arrays = {"nats": self.bound.nats, "tokens": self.bound.tokens, "bytes": self.bound.bytes, "words": self.bound.words,
                  "texts": self.texts, "exact": np.ones(len(self.texts), dtype=bool) if exact is None else exact}  # fmt: skip
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)

    @classmethod
    def load(cls, path: Path) -> MeasuredRun:
        """Read a measurement that :meth:`save` wrote.

        Args:
            path: ``*.npz``.

        Raises:
            ValueError: another kind of file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                arrays = {name: file[name] for name in ("nats", "tokens", "bytes", "words", "exact", "texts")}
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"{path} is no measurement of `unmask compare --save` ({error}). Give a run, or such a file."
            ) from None
        texts, exact = arrays.pop("texts"), arrays.pop("exact")
        bound = Nelbo(**arrays, unscored=about["unscored"], exact=exact)
        seed, samples = about["noise"]
        return cls(about["run"], bound, texts, about["ids"], about["tokenizer"], (seed, samples))


def measure_run(
    trained: Evaluable,
    data: str | Path | Source | None = None,
    *,
    samples: int = 4,
    documents: int | None = None,
    seed: int = 0,
    batch_tokens: int = 16384,
    stages: Stages,
) -> MeasuredRun:
    """Measure the likelihood bound of a run by document; of a supervised run, that of its answers.

    Args:
        trained: the model with its tokenizer.
        data: as for ``unmask evaluate``; None = the validation split of the run.
        samples: passes over the documents, each with other masks.
        documents: number of documents; None = all.
        seed: random seed of the masks.
        batch_tokens: padded tokens of a forward pass.
        stages: progress, per stage.
    """
    windows, special, autocast, _ = evaluation_setting(trained, data, documents)
    with stages(f"evaluating {trained.folder}") as progress, autocast():
        bound = nelbo(
            trained.model, windows, special, samples=samples, seed=seed, batch_tokens=batch_tokens, progress=progress
        )
    ids, texts = document_digests(windows, trained.tokenizer)
    return MeasuredRun(str(trained.folder), bound, texts, ids, trained.tokenizer.fingerprint, (seed, samples))


def document_digests(windows: Windows, tokenizer: Tokenizer) -> tuple[str, NDArray[np.uint64]]:
    """Return a digest of the ids of all documents, and a digest of the text of each one.

    Args:
        windows: rows of the documents, in their order.
        tokenizer: its tokenizer.
    """
    special = list(SpecialIds.of(tokenizer).all)
    of_ids = hashlib.sha256()
    of_text = [hashlib.sha256() for _ in range(windows.n_documents)]
    rows: list[list[int]] = [[] for _ in of_text]
    for number, (row, document) in enumerate(zip(windows.rows, windows.document.tolist(), strict=True)):
        kept = np.asarray(row, dtype=np.int64)
        of_ids.update(document.to_bytes(8, "little") + kept.tobytes())
        if windows.answers is not None:
            of_ids.update(windows.answers[number].tobytes())
        rows[document] += kept[~np.isin(kept, special)].tolist()
    for digest, ids in zip(of_text, rows, strict=True):
        digest.update(tokenizer.decode(ids).encode())
    texts = np.array([int.from_bytes(each.digest()[:8], "little") for each in of_text], dtype=np.uint64)
    return of_ids.hexdigest(), texts
