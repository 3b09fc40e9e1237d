"""Embed a file of texts in parts, and resume after an interruption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.models.hf_files import local_folder, weights_digest
from unmask.text.embedding import EmbeddingOptions, embed_rows, longest_row
from unmask.text.model import TrainedModel
from unmask.text.row_parts import PART_ROWS, Progress, run_in_parts
from unmask.text.vector_files import EmbeddedRow, Record, VectorParts, write_part


def embed_to_file(
    model: TrainedModel,
    records: Iterable[Record],
    output: Path,
    options: EmbeddingOptions,
    *,
    source: Mapping[str, Any],
    batch_size: int = 64,
    part_rows: int = PART_ROWS,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Embed texts and write their vectors to a file.

    Args:
        model: the model and its tokenizer.
        records: the texts, always in the same order.
        output: file with a suffix of ``WRITERS``.
        options: pooling, layer and scale.
        source: description of the input, compared when the command is repeated.
        batch_size: texts per forward pass.
        part_rows: texts per part; an interruption loses the unfinished part only.
        progress: callback ``(texts done, None)``.

    Returns:
        Number of rows of the output, and of those found finished.

    Raises:
        ValueError: no text, an output that exists, parts of another command, or a text longer than the network takes.
    """
    settings = model_settings(model) | {"options": vars(options), "input": dict(source)}
    parts = VectorParts(output)

    def rows_of(some: Sequence[Record], first: int) -> list[EmbeddedRow]:
        return list(embedded_rows(model, some, first, options, batch_size))

    _, found = run_in_parts(
        records,
        parts.folder,
        settings,
        rows_of,
        write=write_part,
        suffix=".parquet",
        part_rows=part_rows,
        progress=progress,
    )
    return parts.finish(), found


def model_settings(model: TrainedModel) -> dict[str, Any]:
    """Return what identifies a model in the settings of a batch command, as a JSON object."""
    folder = local_folder(model.folder)
    return {
        "model": str(model.folder),
        "weights": None if folder is None else weights_digest(folder),
        "tokenizer": model.tokenizer.fingerprint,
        "dtype": model.dtype,
    }


def embedded_rows(
    model: TrainedModel, records: Sequence[Record], first: int, options: EmbeddingOptions, batch_size: int
) -> Iterator[EmbeddedRow]:
    """Yield the rows of some texts, the first of which is number ``first``; a text without tokens has no vector.

    Raises:
        ValueError: a text longer than the network takes.
    """
    limit, tokenizer = longest_row(model.model), model.tokenizer
    rows = []
    for record in records:
        try:
            rows.append(options.encode(tokenizer, record.text, limit))
        except ValueError as error:
            raise ValueError(f"{record.place}: {error}") from None
    filled = [row for row in rows if row]
    vectors = iter(embed_rows(model.model, filled, tokenizer.pad_token_id or 0, batch_size, options) if filled else ())
    single = options.pooling == "token"
    for number, (record, row) in enumerate(zip(records, rows, strict=True), start=first):
        found = next(vectors).numpy() if row else np.zeros((0, 0), np.float32)
        tokens = [tokenizer.token_text(id) for id in row] if single else None
        yield EmbeddedRow(number, record.place, record.fields, np.atleast_2d(found) if row else found, tokens)
