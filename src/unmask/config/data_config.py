"""The ``data`` section of the config: the text, the tokenizer and the training rows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from unmask.config.mixture import Mixture
from unmask.config.section import Positive, Section


class DataConfig(Section):
    """The source of the text, its tokenizer, and the shape of the training rows."""

    source: str = Field(
        "python-docs",
        min_length=1,
        description="Training text: a built-in corpus (python-docs, python-code), a file, a folder, or a hub dataset; or several with weights, {books: 0.7, web.jsonl: 0.3}, each a source or a prepared folder.",
    )
    valid_source: str | None = Field(
        None, description="Separate validation text; null = hold out valid_fraction of the source."
    )
    kind: Literal["text", "supervised"] = Field(
        "text",
        description="Rows of the source: text, or supervised = prompts with answers, chats and texts to infill; only answers are learnt.",
    )
    eos_tail: bool = Field(
        False,
        description="Supervised rows: fill each row up to block_size with EOS that belongs to the answer (LLaDA's fine-tuning).",
    )
    field: str = Field("text", description="Field that holds the text in JSON lines, Parquet and hub datasets.")
    split: str = Field("train", description="Split of a Hugging Face dataset.")
    unit: Literal["file", "section", "paragraph", "line"] | None = Field(
        None,
        description="Extent of one document in plain text; null = a file of a folder, or a section of a single file.",
    )
    inserts: Literal["keep", "drop"] = Field(
        "keep", description="Insertions of aligned sequences (A3M): lower-case letters and dots."
    )
    tokenizer: str | None = Field(
        None,
        description="Kind to train (bpe, unigram, wordpiece, characters, bytes, ids, words), or tokenizer.json, folder or hub name of a tokenizer; null = bpe.",
    )
    vocab_size: int = Field(
        8192,
        ge=6,
        le=2**24,
        description="Largest vocabulary of the trained tokenizer, in tokens, special ones included.",
    )
    special_ids: dict[str, int] | None = Field(
        None,
        description="Ids of the special tokens of ready ids, such as {mask: 0, pad: 1, eos: 2}; null = the tokenizer chooses them.",
    )
    valid_fraction: float = Field(
        0.05, gt=0.0, lt=1.0, description="Fraction of the bytes in the validation split, between 0 and 1."
    )
    seed: int = Field(
        0, description="Random seed of the validation split; runs that differ only in the other seed share a store."
    )
    drop_duplicates: Literal["exact", "near"] | None = Field(
        None,
        description="Leave out documents of the source that repeat earlier ones: exact = equal texts, near = nearly equal texts; null = keep all.",
    )
    block_size: PositiveInt = Field(512, description="Length of a training row, in tokens.")
    rows: Literal["packed", "document", "stream"] | None = Field(
        None,
        description="packed = documents packed uncut where they fit; document = one per row; stream = the token stream cut anywhere; null = packed for short documents, else stream.",
    )
    augment: Literal["sudoku"] | None = Field(
        None,
        description="Rows that replace those of the store, anew in every epoch: sudoku = symmetric copies of puzzles; null = none.",
    )
    identity_weights: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="Aligned sequences (A3M): draw each with weight 1 / number of training sequences that share at least this fraction of its residues; 0.8 is usual, null = all alike.",
    )
    workers: int = Field(0, ge=0, description="Number of data-loader processes; 0 = collate in the training process.")
    wait_minutes: Positive = Field(
        240.0, description="Minutes that the other processes of a launch wait for the first one to prepare the data."
    )
    store: str | None = Field(None, description="Folder of prepared token stores; null = inside the run folder.")

    @field_validator("source", mode="before")
    @classmethod
    def _mixture_as_text(cls, value: Any) -> Any:
        """Write a mixture of sources in one way, whether it comes as a mapping or as text."""
        mixture = Mixture.parse(value)
        return value if mixture is None else str(mixture)

    @model_validator(mode="before")
    @classmethod
    def _special_ids_are_of_ready_ids(cls, values: Any) -> Any:
        """Choose the tokenizer ``ids`` where special ids are given and no tokenizer."""
        if isinstance(values, dict) and values.get("special_ids") is not None and values.get("tokenizer") is None:
            return {**values, "tokenizer": "ids"}
        return values
