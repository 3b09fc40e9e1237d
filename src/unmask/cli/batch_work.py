"""The work of ``--out FOLDER`` of ``fill``, ``generate``, ``score`` and ``embed``: inputs, and their results part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from unmask.cli.decoding import Decoding
from unmask.cli.model_options import ModelChoice
from unmask.data.document import Document

if TYPE_CHECKING:
    from unmask.evaluate.text_rows import TextRow
    from unmask.text.embedding import EmbeddingOptions
    from unmask.text.model import TrainedModel
    from unmask.text.vector_files import EmbeddedRow, Record

Rows = list[dict[str, Any]]


class BatchWork(Protocol):
    """The work of a batch command: picklable, so that every process of a cluster can do parts of it."""

    @property
    def chosen(self) -> ModelChoice:
        """The model."""
        ...

    @property
    def source(self) -> Path:
        """The input."""
        ...

    @property
    def verb(self) -> str:
        """Title of the progress bar."""
        ...

    @property
    def suffix(self) -> str:
        """Suffix of a part."""
        ...

    def records(self) -> Iterator[Any]:
        """Yield the inputs, always in the same order."""
        ...

    def rows(self, loaded: TrainedModel, some: Sequence[Any], first: int) -> list[Any]:
        """Return the results of some inputs, the first of which is number ``first``."""
        ...

    def write(self, path: Path, rows: list[Any]) -> None:
        """Write the results of a part."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return all that determines the results, beside model and input."""
        ...


class _JsonLines:
    """Parts of JSON lines."""

    @property
    def suffix(self) -> str:
        """Suffix of a part."""
        return ".jsonl"

    def write(self, path: Path, rows: Rows) -> None:
        """Write the results of a part."""
        from unmask.cli.row_files import ROW_WRITERS

        ROW_WRITERS[self.suffix](path, rows)


@dataclass(frozen=True)
class FillWork(_JsonLines):
    """Fill the blanks of rows with ``text``, or with ``before`` and ``after``; of plain text, of its lines."""

    chosen: ModelChoice
    source: Path
    decoding: Decoding
    top: int
    longest: int | None
    batch_size: int
    verb: str = "filling"

    def settings(self) -> dict[str, Any]:
        """Return the options."""
        return {
            "decoding": asdict(self.decoding),
            "top": self.top,
            "longest": self.longest,
            "batch_size": self.batch_size,
        }

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the place and the fields of every row; rows whose text is null are skipped."""
        from unmask.cli.records import read_rows
        from unmask.cli.texts import stream_documents

        if self._of_rows:
            yield from ((place, row) for place, row in read_rows(self.source) if row.get("text", "") is not None)
        else:
            yield from ((each.name, {"text": each.text}) for each in stream_documents(self.source, "text"))

    def rows(self, loaded: TrainedModel, some: Sequence[tuple[str, Mapping[str, Any]]], first: int) -> Rows:
        """Return the fields of each row with its filling."""
        from unmask.cli.screen import note
        from unmask.text.filling import fill_rows, fill_texts
        from unmask.text.holes import Hole

        rules = partial(self.decoding.rules, loaded.model, loaded.tokenizer)
        shared: dict[str, Any] = {
            "seed": self.decoding.seed,
            "top": self.top,
            "batch_size": self.batch_size,
            "first_row": first,
        }
        if self._of_rows or self.longest is not None:
            holes = [Hole.of(loaded.tokenizer, row, where) for where, row in some]
            fillings = fill_rows(
                loaded.model, loaded.tokenizer, holes, rules, longest=self.longest, note=note, **shared
            )  # fmt: skip
        else:  # lines, whose blanks may have a length: [MASK:2-6]
            fillings = fill_texts(loaded.model, loaded.tokenizer, [row["text"] for _, row in some], rules, **shared)
        numbered = zip(some, fillings, strict=True)
        return [{"row": n, "place": place, **f.as_dict()} for n, ((place, _), f) in enumerate(numbered, start=first)]

    @property
    def _of_rows(self) -> bool:
        from unmask.data.corpus.formats import format_of_file
        from unmask.data.corpus.row_shapes import ROW_KINDS

        return format_of_file(self.source) in ROW_KINDS


@dataclass(frozen=True)
class GenerateWork(_JsonLines):
    """Continue prompts, or answer chats; each gives ``samples`` rows."""

    chosen: ModelChoice
    source: Path
    decoding: Decoding
    new_tokens: int
    samples: int
    batch_size: int
    verb: str = "generating"

    def settings(self) -> dict[str, Any]:
        """Return the options."""
        return {
            "decoding": asdict(self.decoding),
            "new_tokens": self.new_tokens,
            "samples": self.samples,
            "batch_size": self.batch_size,
        }

    def records(self) -> Iterator[tuple[str, str | list[dict[str, str]]]]:
        """Yield the place of every prompt, and its text or messages."""
        from unmask.cli.texts import stream_prompts

        yield from stream_prompts(self.source)

    def rows(self, loaded: TrainedModel, some: Sequence[tuple[str, Any]], first: int) -> Rows:
        """Return prompt, text and number of forward passes of each sample."""
        from unmask.data.prompts import Prompt
        from unmask.text.generating import generate_texts

        each = [(n, place, given) for n, (place, given) in enumerate(some, start=first) for _ in range(self.samples)]
        prompts = [(Prompt.of if isinstance(p, str) else Prompt.chat)(loaded.tokenizer, p) for _, _, p in each]
        generations = generate_texts(
            loaded.model,
            loaded.tokenizer,
            prompts,
            partial(self.decoding.rules, loaded.model, loaded.tokenizer),
            new_tokens=self.new_tokens,
            seed=self.decoding.seed,
            batch_size=self.batch_size,
            with_probabilities=False,
            first_row=first * self.samples,
        )
        rows = []
        for number, ((row, place, _), made) in enumerate(zip(each, generations, strict=True)):
            facts = made.as_dict()
            del facts["time_taken"]  # differs between two runs
            rows.append({"row": row, "sample": number % self.samples, "place": place, **facts})
        return rows


@dataclass(frozen=True)
class ScoreWork(_JsonLines):
    """Score texts, spans in context, or the documents of a token store."""

    chosen: ModelChoice
    source: Path
    field: str
    before: str
    after: str
    spans: bool
    per: str
    scoring: Mapping[str, Any]
    verb: str = "scoring"

    def settings(self) -> dict[str, Any]:
        """Return the options."""
        named = {name: getattr(self, name) for name in ("field", "before", "after", "spans", "per")}
        return {**named, "scoring": dict(self.scoring)}

    def records(self) -> Iterator[Document | int]:
        """Yield documents; of a token store, their numbers."""
        from unmask.cli.texts import stream_source
        from unmask.data.corpus.sources import Source
        from unmask.data.store.token_store import MANIFEST, TokenStore

        if self.spans:
            yield from Source.parse(str(self.source), supervised=True).documents()
        elif (self.source / MANIFEST).is_file():
            yield from range(TokenStore.open(self.source).n_documents)
        else:
            yield from stream_source(self.source, self.field)

    def rows(self, loaded: TrainedModel, some: Sequence[Any], first: int) -> Rows:
        """Return one row per sentence, word or token."""
        from unmask.cli.score_output import rows_per
        from unmask.contracts import SpecialIds
        from unmask.evaluate.scoring import score_rows

        network: Any = loaded.model
        scores = score_rows(network, SpecialIds.of(loaded.tokenizer), self._text_rows(loaded, some), **self.scoring)
        return rows_per(scores, self.per)

    def _text_rows(self, loaded: TrainedModel, some: Sequence[Any]) -> list[TextRow]:
        from unmask.cli.score_input import spans_of, stored_rows
        from unmask.evaluate.text_rows import InContext, rows_of_texts

        if self.spans:
            return spans_of(loaded, some)
        if isinstance(some[0], int):
            return stored_rows(loaded, self.source, some)
        texts = [InContext(each.text, self.before, self.after, each.name) for each in some]
        return rows_of_texts(loaded.tokenizer, texts, template=loaded.uses_template)


@dataclass(frozen=True)
class EmbedWork:
    """Embed texts: parts are Parquet files with the columns of ``unmask embed``."""

    chosen: ModelChoice
    source: Path
    options: EmbeddingOptions
    field: str
    keep: Sequence[str]
    unit: Literal["file", "section", "paragraph", "line"]
    batch_size: int
    verb: str = "embedding"

    @property
    def suffix(self) -> str:
        """Suffix of a part."""
        return ".parquet"

    def settings(self) -> dict[str, Any]:
        """Return the options."""
        return {"embedding": vars(self.options), "field": self.field, "keep": list(self.keep), "unit": self.unit}

    def records(self) -> Iterator[Record]:
        """Yield the texts with the fields to carry."""
        from unmask.cli.records import read_records

        return read_records(self.source, self.field, self.keep, self.unit)[0]

    def rows(self, loaded: TrainedModel, some: Sequence[Record], first: int) -> list[EmbeddedRow]:
        """Return the vectors of texts."""
        from unmask.text.embedding_job import embedded_rows

        return list(embedded_rows(loaded, some, first, self.options, self.batch_size))

    def write(self, path: Path, rows: list[EmbeddedRow]) -> None:
        """Write the results of a part."""
        from unmask.text.vector_files import write_rows

        write_rows(path, rows)
