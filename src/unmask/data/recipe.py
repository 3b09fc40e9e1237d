"""What a prepared folder is made of, in the words of a config, so that it can stand for itself.

``arguments.json`` holds two things: fingerprints, which say whether a request is the same, and the recipe, which
says in words what was read. The words count where there is nothing left to take a fingerprint of: a source that was
moved away or deleted, or a tokenizer on a hub that is not reachable.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unmask.data.corpus.sources import KINDS, Source
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.storage import read_json, write_json

UNNAMED = "(object)"
_FILE = "arguments.json"


@dataclass(frozen=True)
class Recipe:
    """The settings of section ``data`` that a folder was prepared with; a field is named as there.

    Attributes:
        source, valid_source: what was read, as it was typed.
        tokenizer: path or name of the one that was given; None if one was trained, ``UNNAMED`` if it had no name.
        vocab_size, valid_fraction, seed: None where nothing depends on them.
    """

    source: str
    valid_source: str | None
    field: str
    unit: str | None
    split: str
    tokenizer: str | None
    vocab_size: int | None
    valid_fraction: float | None
    seed: int | None

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
    ) -> Recipe:
        """The recipe of a request."""
        non_adjacent = valid_source is not None
        return cls(
            source=source.written or f"{source.kind}:{source.path}",
            valid_source=None
            if valid_source is None
            else valid_source.written or f"{valid_source.kind}:{valid_source.path}",
            field=source.field,
            unit=source.unit,
            split=source.split,
            tokenizer=None
            if tokenizer is None
            else UNNAMED
            if isinstance(tokenizer, Tokenizer)
            else os.fspath(tokenizer),
            vocab_size=vocab_size if tokenizer is None else None,
            valid_fraction=None if non_adjacent else valid_fraction,
            seed=None if non_adjacent else seed,
        )

    @classmethod
    def read(cls, folder: Path) -> Recipe | None:
        """The recipe of a folder that is complete; None if the folder is not, or has no recipe."""
        if not (folder / "prepared.json").is_file() or not (folder / _FILE).is_file():
            return None
        saved = read_json(folder / _FILE).get("recipe")
        return cls(**saved) if isinstance(saved, dict) and saved.keys() == {f.name for f in fields(cls)} else None

    @classmethod
    def names(cls) -> frozenset[str]:
        """The settings of section ``data`` that a recipe is made of."""
        return frozenset(f.name for f in fields(cls))


def differences(folder: Path, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """The ``given`` settings that a complete folder was not made with, as ``{name: (made with, now)}``.

    A source or tokenizer that is there is compared by its fingerprint, one that is gone by its name.
    """
    recipe, saved = Recipe.read(folder), read_json(folder / _FILE)
    assert recipe is not None
    found = {}
    for name in sorted(Recipe.names() & set(given)):
        made, now = getattr(recipe, name), settings[name]
        if name in ("source", "valid_source"):
            same = (made is None) if now is None else _same_source(recipe, made, now, saved[name])
        elif name == "tokenizer":
            same = (made is None) if now is None else _same_tokenizer(made, now, saved[name])
        else:
            same = made == now or (made is None and name in ("vocab_size", "valid_fraction", "seed"))
        if not same:
            found[name] = (made, now)
    return found


def _same_source(recipe: Recipe, made: str | None, now: str, fingerprint: str | None) -> bool:
    try:
        source = Source.parse(now, field=recipe.field, unit=recipe.unit, split=recipe.split)  # type: ignore[arg-type]
    except ValueError:
        return _same_place(made, now)
    return _same_place(made, now) if source.kind == "hub" else source.fingerprint() == fingerprint


def _same_tokenizer(made: str | None, now: str, fingerprint: str | None) -> bool:
    return Tokenizer.load(now).fingerprint == fingerprint if Path(now).expanduser().exists() else _same_place(made, now)


def claim(out: Path, arguments: dict[str, Any], recipe: Recipe) -> None:
    """Write down what this folder is for, or make sure that it is for the same once it holds a first result.

    Raises:
        ValueError: the folder is for something else.
    """
    path = out / _FILE
    begun = (out / "tokenizer.json").exists()
    if not begun:
        (out / "split.json").unlink(missing_ok=True)
        write_json(path, {**arguments, "recipe": asdict(recipe)})
        return
    if not path.exists():
        raise ValueError(
            f"{out} holds a tokenizer.json that `unmask prepare` did not put there. Choose a new or empty folder."
        )
    before = read_json(path)
    different = [key for key, value in arguments.items() if before.get(key) != value]
    if different:
        changes = ", ".join(f"{key} (was {_short(before.get(key))}, now {_short(arguments[key])})" for key in different)
        raise ValueError(
            f"{out} was prepared with other arguments; different: {changes}. Choose another folder, repeat the earlier arguments, "
            f"or delete {out} to prepare it anew. (A source differs when its files were changed. To train on the store as it is, give "
            "data.store alone, without data.source.)"
        )


def _short(value: Any) -> Any:
    return f"{value[:8]}…" if isinstance(value, str) and len(value) == 64 else value


def _same_place(made: str | None, now: str | None) -> bool:
    return made == now or (made is not None and now is not None and _absolute(made) == _absolute(now))


def _absolute(written: str) -> str:
    prefix, colon, rest = written.partition(":")
    path = rest if colon and prefix in KINDS else written
    return str(Path(path).expanduser().absolute())
