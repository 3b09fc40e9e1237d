"""From the ``data`` section of a config to prepared token stores."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from unmask.config.tree import Config
from unmask.data.corpus.sources import Source
from unmask.data.preparation import Prepared, Progress, prepare
from unmask.data.recipe import UNNAMED, Recipe, differences


def build_source(name: str, config: Config) -> Source:
    """The text source a config means by ``name``."""
    return Source.parse(name, field=config.data.field, unit=config.data.unit, split=config.data.split)


def with_store(config: Config) -> Config:
    """Fill in what a complete ``data.store`` was made of, where the config does not say, so that the store stands for itself."""
    recipe = None if config.data.store is None else Recipe.read(Path(config.data.store))
    if recipe is None:
        return config
    made = {
        name: value
        for name, value in asdict(recipe).items()
        if name not in config.data.model_fields_set and value is not None
    }
    if made.get("tokenizer") == UNNAMED:
        del made["tokenizer"]
    return config.model_copy(update={"data": config.data.model_copy(update=made)})


def prepare_data(
    config: Config,
    run: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    given: Collection[str] | None = None,
) -> Prepared:
    """Make (or find) the token stores a run trains on.

    Args:
        given: settings of ``config.data`` that a complete store must have been made with; None = all of them.

    Raises:
        ValueError: the store was made with other settings, or its source cannot be read.
    """
    data = config.data
    folder = Path(data.store) if data.store is not None else run / "data"
    if Recipe.read(folder) is not None:
        different = differences(folder, data.model_dump(), Recipe.names() if given is None else given)
        if different:
            changes = ", ".join(
                f"data.{name} (made with {made!r}, now {now!r})" for name, (made, now) in different.items()
            )
            raise ValueError(
                f"The store {folder} was prepared with other settings; different: {changes}. Leave them out to train on the store as it is "
                "(data.store alone), give those it was made with, or choose another folder. (A source differs when its files were changed.)"
            )
        return Prepared.open(folder)
    return prepare(
        build_source(data.source, config),
        folder,
        tokenizer=data.tokenizer,
        vocab_size=data.vocab_size,
        valid_fraction=data.valid_fraction,
        valid_source=None if data.valid_source is None else build_source(data.valid_source, config),
        workers=workers,
        seed=data.seed,
        progress=progress,
    )
