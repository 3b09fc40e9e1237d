"""The settings that a prepared folder was made with, so that it can be reopened without its source.

``arguments.json`` holds fingerprints, which detect a request with other arguments, and the recipe: the settings as they
were written. The recipe is compared when no fingerprint can be computed: the source was moved or deleted, or the
tokenizer's hub is unreachable.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from unmask.data.corpus.formats import Inserts, kinds
from unmask.data.corpus.sections import Unit
from unmask.data.corpus.sources import Source
from unmask.data.tokenizing.kinds import TOKENIZER_KINDS
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.storage import read_json, write_json

UNNAMED = "(object)"
_FILE = "arguments.json"


@dataclass(frozen=True)
class Recipe:
    """The settings of the config section ``data`` that a folder was prepared with, under the same names.

    Attributes:
        source, valid_source: the sources as they were written.
        kind: ``"text"``, or ``"supervised"`` for rows with answers.
        tokenizer: path or name of the given tokenizer; None if one was trained, ``UNNAMED`` for a tokenizer object.
        vocab_size, valid_fraction, seed: None if nothing depends on them.
        special_ids: ids of the special tokens by role; None if the tokenizer chose them.
        drop_duplicates: which duplicates were left out; None = none.
    """

    source: str
    valid_source: str | None
    kind: str
    field: str
    unit: str | None
    split: str
    inserts: Inserts
    tokenizer: str | None
    vocab_size: int | None
    valid_fraction: float | None
    seed: int | None
    special_ids: dict[str, int] | None = None
    drop_duplicates: str | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        valid_source: Source | None,
        tokenizer: str | os.PathLike[str] | Tokenizer | None,
        *,
        vocab_size: int,
        valid_fraction: float,
        seed: int,
        special_ids: Mapping[str, int] | None = None,
        drop_duplicates: str | None = None,
    ) -> Recipe:
        """Return the recipe of a request."""
        separate = valid_source is not None
        return cls(
            source=source.written or f"{source.kind}:{source.path}",
            valid_source=None
            if valid_source is None
            else valid_source.written or f"{valid_source.kind}:{valid_source.path}",
            kind="supervised" if source.supervised else "text",
            field=source.field,
            unit=source.unit,
            split=source.split,
            inserts=source.inserts,
            tokenizer=None
            if tokenizer is None
            else UNNAMED
            if isinstance(tokenizer, Tokenizer)
            else os.fspath(tokenizer),
            vocab_size=vocab_size if tokenizer is None or tokenizer in TOKENIZER_KINDS else None,
            valid_fraction=None if separate else valid_fraction,
            seed=None if separate else seed,
            special_ids=None if special_ids is None else dict(special_ids),
            drop_duplicates=drop_duplicates,
        )

    @classmethod
    def read(cls, folder: Path) -> Recipe | None:
        """Return the recipe of a complete folder; None for an incomplete folder or one without a recipe."""
        if not (folder / "prepared.json").is_file() or not (folder / _FILE).is_file():
            return None
        saved = read_json(folder / _FILE).get("recipe")
        required = {f.name for f in fields(cls) if f.default is MISSING}
        return cls(**saved) if isinstance(saved, dict) and required <= saved.keys() <= cls.names() else None

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of the settings in a recipe."""
        return frozenset(f.name for f in fields(cls))


def differences(folder: Path, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """Compare settings with those that a complete folder was made with.

    An existing source or tokenizer is compared by its fingerprint, a missing one by its name.

    Args:
        folder: a complete prepared folder.
        settings: the present settings of the config section ``data``.
        given: names of the settings to compare: those that the user set.

    Returns:
        ``{name: (recorded, present)}`` of the settings that differ.
    """
    recipe, saved = Recipe.read(folder), read_json(folder / _FILE)
    assert recipe is not None
    different = {}
    for name in sorted(Recipe.names() & set(given)):
        recorded, present = getattr(recipe, name), settings[name]
        if name in ("source", "valid_source"):
            same = (recorded is None) if present is None else _same_source(recipe, recorded, present, saved[name])
        elif name == "tokenizer":
            same = (recorded is None) if present is None else _same_tokenizer(recorded, present, saved[name])
        else:
            same = recorded == present or (recorded is None and name in ("vocab_size", "valid_fraction", "seed"))
        if not same:
            different[name] = (recorded, present)
    return different


def _same_source(recipe: Recipe, recorded: str | None, present: str, fingerprint: str | None) -> bool:
    try:
        source = Source.parse(
            present,
            field=recipe.field,
            unit=cast(Unit | None, recipe.unit),
            split=recipe.split,
            supervised=recipe.kind == "supervised",
            inserts=recipe.inserts,
        )
    except ValueError:
        return _same_path(recorded, present)
    return _same_path(recorded, present) if source.kind == "hub" else source.fingerprint() == fingerprint


def _same_tokenizer(recorded: str | None, present: str, fingerprint: str | None) -> bool:
    if present in TOKENIZER_KINDS:
        return present == (recorded or "bpe")
    if Path(present).expanduser().exists():
        return Tokenizer.load(present).fingerprint == fingerprint
    return _same_path(recorded, present)


def claim(out: Path, arguments: dict[str, Any], recipe: Recipe) -> None:
    """Record the arguments of a new folder, or compare them with those of a folder that already holds a first result.

    Raises:
        ValueError: the folder was prepared with other arguments.
    """
    path = out / _FILE
    begun = (out / "tokenizer.json").exists()
    if not begun:
        wanted = {**arguments, "recipe": asdict(recipe)}
        if not path.exists() or read_json(path) != wanted:
            for left in ("split.json", "duplicates.json"):  # steps of another request
                (out / left).unlink(missing_ok=True)
            shutil.rmtree(out / "parts", ignore_errors=True)
            write_json(path, wanted)
        return
    if not path.exists():
        raise ValueError(
            f"{out} holds a tokenizer.json that `unmask prepare` did not write. Choose a new or empty folder."
        )
    before = read_json(path)
    keys = dict.fromkeys([*arguments, *(key for key in before if key != "recipe")])
    different = [key for key in keys if before.get(key) != arguments.get(key)]
    if different:
        changes = ", ".join(
            f"{key} (was {_short(before.get(key))}, now {_short(arguments.get(key))})" for key in different
        )
        raise ValueError(
            f"{out} was prepared with other arguments; different: {changes}. Choose another folder, repeat the earlier "
            f"arguments, or delete {out} to prepare it again. (A source differs when its files were changed. To train "
            "on the store as it is, set data.store alone, without data.source.)"
        )


def _short(value: Any) -> Any:
    return f"{value[:8]}…" if isinstance(value, str) and len(value) == 64 else value


def _same_path(recorded: str | None, present: str | None) -> bool:
    return recorded == present or (
        recorded is not None and present is not None and _absolute(recorded) == _absolute(present)
    )


def _absolute(written: str) -> str:
    prefix, colon, rest = written.partition(":")
    path = rest if colon and prefix in kinds() else written
    return str(Path(path).expanduser().absolute())
