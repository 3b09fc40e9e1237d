"""A request to prepare a corpus: its arguments, checked, and what identifies its result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from unmask.contracts import SpecialIds
from unmask.data.corpus.sources import Source
from unmask.data.duplicates import Duplicates
from unmask.data.recipe import Recipe
from unmask.data.tokenizing.kinds import ONLY_IDS, TOKENIZER_KINDS
from unmask.data.tokenizing.number_tokens import check_special_ids
from unmask.data.tokenizing.tokenizers import Tokenizer


@dataclass(frozen=True)
class PreparationRequest:
    """The arguments of ``prepare`` that determine its result.

    Attributes:
        source, valid_source: the corpora; None = a part of ``source`` is held out.
        out: folder of the result.
        tokenizer: a given tokenizer, or the kind of tokenizer to train (``"traces"`` for instruction traces).
        vocab_size, valid_fraction, shard_tokens, seed, special_ids, drop_duplicates: as given.
        arguments: fingerprints of all of these, compared when the request is repeated.
        recipe: the settings as they were written.
    """

    source: Source
    valid_source: Source | None
    out: Path
    tokenizer: Tokenizer | str
    vocab_size: int
    valid_fraction: float
    shard_tokens: int
    seed: int
    special_ids: Mapping[str, int] | None
    drop_duplicates: Duplicates | None
    arguments: Mapping[str, Any]
    recipe: Recipe

    @classmethod
    def of(
        cls,
        source: str | os.PathLike[str] | Source,
        out: str | os.PathLike[str],
        tokenizer: str | os.PathLike[str] | Tokenizer | None,
        vocab_size: int,
        valid_fraction: float,
        valid_source: str | os.PathLike[str] | Source | None,
        shard_tokens: int,
        seed: int,
        special_ids: Mapping[str, int] | None,
        drop_duplicates: Duplicates | None,
    ) -> PreparationRequest:
        """Check the arguments of ``prepare``; errors as there."""
        if not 0 < valid_fraction < 1:
            raise ValueError(
                f"valid_fraction is {valid_fraction}; it is the fraction of the bytes to hold out, between 0 and 1, like "
                "0.05."
            )
        if shard_tokens < 1:
            raise ValueError(f"shard_tokens ({shard_tokens}) must be at least 1.")
        if drop_duplicates not in (None, *get_args(Duplicates)):
            raise ValueError(
                f"drop_duplicates is {drop_duplicates!r}; choose exact (equal texts) or near (nearly equal texts), or leave it out."
            )
        if special_ids is not None:
            tokenizer = "ids" if tokenizer is None else tokenizer
            if tokenizer != "ids":
                raise ValueError(f"special_ids are those of ready ids, and the tokenizer is {tokenizer!r}. {ONLY_IDS}")
            check_special_ids(special_ids, vocab_size)
        source = Source.parse(source)
        separate = None if valid_source is None else Source.parse(valid_source)
        if separate is not None and separate.supervised != source.supervised:
            raise ValueError("One of source and valid_source is supervised and the other is text. Both have one kind.")
        named = isinstance(tokenizer, str) and tokenizer in TOKENIZER_KINDS
        kind = "bpe" if tokenizer is None else str(tokenizer) if named else None
        given = None
        if tokenizer is not None and kind is None:
            given = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.load(tokenizer)
            SpecialIds.of(given).require("pad", "eos")
        arguments: dict[str, Any] = {
            "source": source.fingerprint(),
            "tokenizer": None if given is None else given.fingerprint,
            "vocab_size": vocab_size if given is None else None,
            "valid_source": None if separate is None else separate.fingerprint(),
            "valid_fraction": valid_fraction if separate is None else None,
            "seed": seed if separate is None else None,
            "shard_tokens": shard_tokens,
        }
        if source.supervised and given is not None and given.settings.get("chat_template"):
            arguments["chat_template"] = given.settings["chat_template"]
        if kind not in (None, "bpe"):
            arguments["tokenizer_kind"] = kind
        if special_ids is not None:
            arguments["special_ids"] = dict(special_ids)
        if drop_duplicates is not None:
            arguments["drop_duplicates"] = drop_duplicates
        recipe = Recipe.of(
            source,
            separate,
            tokenizer,
            vocab_size=vocab_size,
            valid_fraction=valid_fraction,
            seed=seed,
            special_ids=special_ids,
            drop_duplicates=drop_duplicates,
        )
        return cls(
            source,
            separate,
            Path(out),
            given or ("traces" if source.kind == "traces" else str(kind)),
            vocab_size,
            valid_fraction,
            shard_tokens,
            seed,
            special_ids,
            drop_duplicates,
            arguments,
            recipe,
        )
