"""``--out FOLDER`` of ``fill``, ``generate`` and ``score``: many rows in, finished parts out (``unmask.text.row_parts``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unmask.cli.decoding import Decoding
from unmask.cli.model_options import ModelChoice
from unmask.data.document import Document

if TYPE_CHECKING:
    from unmask.evaluate.text_rows import TextRow
    from unmask.text.model import TrainedModel

Rows = list[dict[str, Any]]


class BatchWork(Protocol):
    """The work of a batch command: picklable, so that every process of a cluster can do parts of it."""

    chosen: ModelChoice
    source: Path
    verb: str

    def records(self) -> Iterator[Any]:
        """Yield the inputs, always in the same order."""
        ...

    def rows(self, loaded: TrainedModel, some: Sequence[Any], first: int) -> Rows:
        """Return the results of some inputs, the first of which is number ``first``."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return all that determines the results, beside model and input."""
        ...


@dataclass(frozen=True)
class FillWork:
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
class GenerateWork:
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
class ScoreWork:
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


def run_batch(work: BatchWork, out: Path, part_rows: int, as_json: bool, engine: str = "processes") -> None:
    """Do the work part by part into a folder, or finish it, and print how much was done.

    Args:
        work: the work.
        out: folder of the parts.
        part_rows: inputs of a part.
        as_json: print JSON.
        engine: ``processes`` (this process), or ``ray``.
    """
    from unmask.cli.row_files import ROW_WRITERS
    from unmask.cli.screen import counting, print_json, show
    from unmask.data.engines import ENGINES
    from unmask.text.embedding_job import model_settings
    from unmask.text.row_parts import run_in_parts

    ENGINES.choose(engine)
    loaded = work.chosen.load()
    settings = model_settings(loaded) | {"input": describe_input(work.source), "options": work.settings()}
    settings = json.loads(json.dumps(settings, default=str))
    with counting(work.verb) as progress:
        rows, found = run_in_parts(
            work.records(),
            out,
            settings,
            partial(work.rows, loaded),
            write=ROW_WRITERS[".jsonl"],
            suffix=".jsonl",
            part_rows=part_rows,
            progress=progress,
        )
    if as_json:
        print_json({"output": str(out), "rows": rows, "rows_found_finished": found})
        return
    resumed = f" ({found:,} of them were finished by an earlier run)" if found else ""
    show(f"{out}: {rows:,} rows{resumed}")


def describe_input(source: Path) -> dict[str, Any]:
    """Return what identifies an input: size and time of a file, or the fingerprint of a folder or dataset."""
    if source.is_file():
        facts = source.stat()
        return {"path": str(source), "bytes": facts.st_size, "changed": facts.st_mtime_ns}
    from unmask.data.corpus.sources import Source
    from unmask.data.store.token_store import MANIFEST
    from unmask.storage import digest

    if (source / MANIFEST).is_file():
        return {"path": str(source), "sha256": digest(source / MANIFEST)}
    return {"path": str(source), "fingerprint": Source.parse(str(source), unit="line").fingerprint()}


def require_only_input(out: Path, source: Path | None, others: Mapping[str, object]) -> Path:
    """Return the input of a batch command.

    Raises:
        ValueError: no ``--input``, or options of single texts.
    """
    given = [name for name, value in others.items() if value]
    if source is None or given:
        what = f"{', '.join(given)} cannot be used with it" if given else "there is none"
        raise ValueError(f"--out {out} writes the results of the rows of --input FILE, part by part, and {what}.")
    return source
