"""From the ``data`` section of a config to prepared token stores."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unmask.config.data_config import DataConfig
from unmask.config.mixture import Mixture
from unmask.config.tree import Config
from unmask.contracts import SpecialIds
from unmask.data.corpus.sources import Source
from unmask.data.identity import GAP, identity_weights
from unmask.data.mixing import prepare_mixture, recorded_mixture
from unmask.data.preparation import Prepared, Progress, prepare
from unmask.data.recipe import UNNAMED, Recipe, differences
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.kinds import TOKENIZER_KINDS
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.tasks.sudoku_solver import DIGITS
from unmask.tasks.sudoku_symmetries import SudokuAugmentation
from unmask.training.supervised_rows import Augmentation


def build_source(name: str, config: Config) -> Source:
    """Return the source ``name``, read with the options of the ``data`` section."""
    data = config.data
    return Source.parse(
        name,
        field=data.field,
        unit=data.unit,
        split=data.split,
        inserts=data.inserts,
        supervised=data.kind == "supervised",
    )


def with_store(config: Config) -> Config:
    """Return the config with every unset ``data`` key taken from the recipe of a complete ``data.store``.

    A prepared store can therefore be used without repeating the settings it was prepared with.
    """
    recipe = None if config.data.store is None else Recipe.read(Path(config.data.store))
    if recipe is None:
        mixed = None if config.data.store is None else recorded_mixture(Path(config.data.store))
        if mixed is None or "source" in config.data.model_fields_set:
            return config
        return config.model_copy(update={"data": config.data.model_copy(update={"source": mixed})})
    settings = {
        name: value
        for name, value in asdict(recipe).items()
        if name not in config.data.model_fields_set and value is not None
    }
    if settings.get("tokenizer") == UNNAMED:
        del settings["tokenizer"]
    return config.model_copy(update={"data": config.data.model_copy(update=settings)})


def prepare_data(
    config: Config,
    run: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    given: Collection[str] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Prepared:
    """Prepare the token stores of a run, or open them if they are complete.

    Args:
        config: the config of the run.
        run: the run folder; it holds the stores if ``data.store`` is null.
        workers: number of tokenising processes; None = one per core.
        progress: callback for the progress of the preparation.
        given: keys of ``config.data`` that must equal those of a complete store; None = all of them.
        tokenizer: replaces ``data.tokenizer``; the caller compares it with that of a complete store.

    Raises:
        ValueError: a store that was prepared with other settings, or an unreadable source.
    """
    data = config.data
    folder = Path(data.store) if data.store is not None else run / "data"
    mixture = Mixture.parse(data.source)
    if mixture is not None:
        return _prepare_mixture(mixture, folder, config, workers, progress, tokenizer)
    if Recipe.read(folder) is not None:
        names = set(Recipe.names() if given is None else given)
        different = differences(
            folder, data.model_dump(), names if tokenizer is None else names - {"tokenizer", "vocab_size"}
        )
        if different:
            changes = ", ".join(
                f"data.{name} (made with {before!r}, now {now!r})" for name, (before, now) in different.items()
            )
            raise ValueError(
                f"The store {folder} was prepared with other settings; different: {changes}. Leave these keys out to train on "
                "the store as it is (data.store alone), set them to the store's values, or choose another folder with data.store=…. "
                "(A source differs when its files were changed.)"
            )
        return Prepared.open(folder)
    return _prepare(data.source, folder, config, workers, progress, tokenizer)


def _prepare(
    source: str,
    folder: Path,
    config: Config,
    workers: int | None,
    progress: Progress | None,
    tokenizer: Tokenizer | None,
) -> Prepared:
    data = config.data
    return prepare(
        build_source(source, config),
        folder,
        tokenizer=data.tokenizer if tokenizer is None else tokenizer,
        vocab_size=data.vocab_size,
        valid_fraction=data.valid_fraction,
        valid_source=None if data.valid_source is None else build_source(data.valid_source, config),
        workers=workers,
        seed=data.seed,
        progress=progress,
        special_ids=data.special_ids,
        drop_duplicates=data.drop_duplicates,
    )


def _prepare_mixture(
    mixture: Mixture,
    folder: Path,
    config: Config,
    workers: int | None,
    progress: Progress | None,
    tokenizer: Tokenizer | None,
) -> Prepared:
    """Prepare the members of a mixture with the options of the ``data`` section, and return the folder of the mixture."""
    data = config.data
    if data.valid_source is not None:
        raise ValueError(
            "data.valid_source replaces the validation split of one source, and data.source is a mixture, whose validation split is that of "
            "all its sources. Leave data.valid_source out."
        )
    if tokenizer is None and data.tokenizer is not None and data.tokenizer not in TOKENIZER_KINDS:
        tokenizer = Tokenizer.load(data.tokenizer)

    def member(source: str, out: Path, given: Tokenizer | None) -> Prepared:
        return _prepare(source, out, config, workers, progress, given)

    return prepare_mixture(mixture, folder, member, tokenizer)


def document_weights(config: DataConfig, prepared: Prepared, tokenizer: Tokenizer) -> NDArray[np.float64] | None:
    """Return how often each training document is drawn (``data.identity_weights``); None = all alike.

    Raises:
        ValueError: ``data.rows`` puts several documents into a row, or the documents are no aligned sequences.
    """
    if config.identity_weights is None:
        return None
    if config.rows != "document":
        raise ValueError(
            f"data.identity_weights={config.identity_weights} draws whole sequences, and data.rows={config.rows} does not put one into each "
            "row: set data.rows=document."
        )
    if Mixture.parse(config.source) is not None:
        raise ValueError(
            "data.identity_weights weighs the sequences of one source, and data.source is a mixture. Leave one of the two out."
        )
    store, gap = TokenStore.open(prepared.train), tokenizer.encode(GAP)
    return identity_weights(store, config.identity_weights, gap[0] if len(gap) == 1 else None)


def row_augmentation(config: DataConfig, tokenizer: Tokenizer) -> Augmentation | None:
    """Return the augmentation of training rows (``data.augment``), or None.

    Raises:
        ValueError: the tokenizer does not encode each digit as a token.
    """
    if config.augment is None:
        return None
    digits = [tokenizer.encode(digit) for digit in DIGITS]
    if any(len(each) != 1 for each in digits):
        raise ValueError(
            "data.augment=sudoku renames digits, which must be single tokens. Set data.tokenizer=characters."
        )
    known = [each[0] for each in digits]
    unknown = SpecialIds.of(tokenizer).all
    return SudokuAugmentation([id for id in known if id not in unknown])
