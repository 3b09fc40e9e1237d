"""The setting of an evaluation: its rows, special ids and precision, from a trained model and an optional text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from unmask.build.objective import special_ids
from unmask.config.tree import Config
from unmask.contracts import SpecialIds
from unmask.data.corpus.row_shapes import WHAT_A_ROW_HOLDS
from unmask.data.corpus.sources import Source
from unmask.data.store.token_store import TokenStore
from unmask.devices import device_of
from unmask.evaluate.windows import Windows
from unmask.text.answer_matching import answers_of_source
from unmask.training.precision import choose_precision

if TYPE_CHECKING:
    from unmask.data.tokenizing.tokenizers import Tokenizer

LONGEST_BLOCK = 1024  # tokens of a window for a network without a longest row
HELD_OUT = "held-out documents of the run"


class Evaluable(Protocol):
    """A trained model with its tokenizer: ``TrainedModel`` or ``LoadedRun``."""

    @property
    def model(self) -> Any: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def folder(self) -> Path: ...
    @property
    def step(self) -> int | None: ...
    @property
    def config(self) -> Config | None: ...
    @property
    def dtype(self) -> str: ...


def evaluation_setting(
    trained: Evaluable, data: str | Path | Source | Sequence[str] | None = None, documents: int | None = None
) -> tuple[Windows, SpecialIds, Callable[..., torch.autocast], str]:
    """Return the rows to evaluate on, the special ids, the precision of forward passes, and the name of the rows' origin."""
    device, special = device_of(trained.model), SpecialIds.of(trained.tokenizer)
    if trained.config is not None:
        special = special_ids(trained.config.objective, trained.tokenizer)
    precision = "fp32" if trained.config is None else trained.config.train.precision
    bf16 = trained.dtype == "auto" and choose_precision(precision, device) == "bf16-mixed"

    def autocast(enabled: bool = True) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and enabled)

    supervised = trained.config is not None and trained.config.data.kind == "supervised"
    windows, origin = (_answers if supervised else _windows)(trained, data, documents, stores_of(trained))
    return windows, special, autocast, origin


def _windows(
    trained: Evaluable, data: str | Path | Source | Sequence[str] | None, documents: int | None, stores: Path | None
) -> tuple[Windows, str]:
    """Return the rows to evaluate on, and the name of their origin."""
    tokenizer, config = trained.tokenizer, trained.config
    block = int(trained.model.max_length or LONGEST_BLOCK) if config is None else config.data.block_size
    if data is not None:
        if isinstance(data, str | Path | Source):
            source = Source.parse(data)
            origin, texts = source.path, [d.text for d in islice(source.documents(), documents)]
        else:
            origin, texts = "given texts", list(data)[:documents]
        if not texts:
            raise ValueError(
                f"There is no text to evaluate on in {origin}: choose another source, or pass one text or more."
            )
        return Windows.of_rows(tokenizer.encode_batch(texts), block, texts, tokenizer.decode), origin
    store = _valid_store(trained, stores)
    rows = None if documents is None else range(min(documents, store.n_documents))
    return Windows.of_store(store, block, rows), HELD_OUT


def _answers(
    trained: Evaluable, data: str | Path | Source | Sequence[str] | None, documents: int | None, stores: Path | None
) -> tuple[Windows, str]:
    """Return the rows with answers to evaluate on, and the name of their origin."""
    assert trained.config is not None
    block = trained.config.data.block_size
    if data is None:
        store = _valid_store(trained, stores)
        count = store.n_documents if documents is None else min(documents, store.n_documents)
        rows = ((store.document(i).tolist(), store.flags(i).tolist()) for i in range(count))
        return Windows.of_answers(rows, block), HELD_OUT
    if not isinstance(data, str | Path | Source):
        raise ValueError(
            f"{trained.folder} was trained on prompts with answers, and texts without them were given. Name a file of rows. "
            f"{WHAT_A_ROW_HOLDS}"
        )
    source = replace(data, supervised=True) if isinstance(data, Source) else Source.parse(data, supervised=True)
    return answers_of_source(source, trained.tokenizer, block, documents), source.path


def _valid_store(trained: Evaluable, stores: Path | None) -> TokenStore:
    if stores is None:
        raise ValueError(
            f"{trained.folder} has no validation split beside it (the data folder of its run is missing). Name the text to evaluate "
            "on: `unmask evaluate --data FILE`, or evaluate(FILE) in Python."
        )
    store = TokenStore.open(stores / "valid")
    store.check_tokenizer(trained.tokenizer)
    return store


def stores_of(trained: Evaluable) -> Path | None:
    """Return the folder of the run's token stores, which may have moved with the run; None if it is missing."""
    if trained.config is None:
        return None
    store = trained.config.data.store
    folders = [trained.folder.parent.parent / "data", trained.folder / "data", Path(trained.config.run) / "data"]
    given = [] if store is None else [Path(store)]
    return next((folder for folder in given + folders if (folder / "prepared.json").is_file()), None)
