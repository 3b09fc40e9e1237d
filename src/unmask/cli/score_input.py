"""What ``unmask score`` scores: texts of any source, spans in context, rows of a token store, minimal pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unmask.cli.texts import read_documents, read_standard_input
from unmask.contracts import SpecialIds
from unmask.data.corpus.pair_rows import pair_as_text
from unmask.data.corpus.sources import Source
from unmask.data.document import Document
from unmask.data.row_encoding import RowEncoder, last_answer
from unmask.data.store.token_store import MANIFEST, TokenStore
from unmask.evaluate.minimal_pairs import MinimalPair
from unmask.evaluate.text_rows import InContext, TextRow, row_of_ids, rows_of_texts

if TYPE_CHECKING:
    from unmask.text.model import TrainedModel


def read_score_rows(
    trained: TrainedModel,
    text: Sequence[str] | None,
    source: Path | None,
    *,
    field: str = "text",
    before: str = "",
    after: str = "",
    spans: bool = False,
) -> list[TextRow]:
    """Return the rows to score.

    Args:
        trained: the model; its training decides how spans are tokenised.
        text: texts of the command line; None or ``-`` without a ``source`` = lines of standard input.
        source: ``--input``.
        field: field of the text in rows of ``source``.
        before, after: context of every text.
        spans: rows of ``source`` hold spans in context.

    Raises:
        ValueError: no text, a contradiction, or an unreadable source.
    """
    if spans:
        if source is None or text or before or after:
            raise ValueError(
                "--spans reads rows with their own context from a file: give it with --input, without texts, --before or --after."
            )
        return _spans(trained, source)
    if source is not None and (source / MANIFEST).is_file():
        if text or before or after:
            raise ValueError(
                f"{source} is a token store, whose rows are scored as they are: leave texts, --before and --after out."
            )
        return stored_rows(trained, source)
    given = [*(text or ())]
    if source is None and (not given or given == ["-"]):
        named = [(f"standard input:{n}", line) for n, line in enumerate(read_standard_input(), 1)]
    else:
        named = [(str(n), each) for n, each in enumerate(given, 1)]
        named += [] if source is None else [(each.name, each.text) for each in read_documents(source, field)]
    if not named:
        raise ValueError(
            "There is no text to score: pass it as an argument, in a file (--input), or line by line on standard input."
        )
    texts = [InContext(each, before, after, name) for name, each in named]
    return rows_of_texts(trained.tokenizer, texts, template=trained.uses_template)


def read_pairs(path: Path) -> list[MinimalPair]:
    """Read minimal pairs from a file, a folder or a dataset of rows.

    Raises:
        ValueError: a row without a good or a bad sentence, or a source that holds no rows.
    """
    source = Source.parse(str(path))
    pairs = []
    for document in source.documents(pair_as_text):
        row: dict[str, str] = json.loads(document.text) if document.text.startswith("{") else {}
        if "good" not in row:
            raise ValueError(
                f"--pairs {path} is of kind {source.kind}, which holds no rows with a good and a bad sentence: give JSON lines, CSV, TSV or Parquet."
            )
        pairs.append(MinimalPair(**{"id": document.name, **row}))
    return pairs


def _spans(trained: TrainedModel, path: Path) -> list[TextRow]:
    return spans_of(trained, list(Source.parse(str(path), supervised=True).documents()))


def spans_of(trained: TrainedModel, documents: Sequence[Document]) -> list[TextRow]:
    """Return rows with answers as rows to score: the answer, or the middle, given the rest.

    Raises:
        ValueError: messages for a model of plain text.
    """
    if trained.config is not None and trained.config.data.kind == "supervised":
        return _supervised(trained, [(each.name, each.text) for each in documents])
    texts = []
    for document in documents:
        row: dict[str, Any] = json.loads(document.text)
        if "messages" in row:
            raise ValueError(
                f"{document.name}: this model was trained on plain text, so messages have no template to stand in. Write rows with prompt and "
                "answer, or with before, middle and after."
            )
        if "answer" in row:
            texts.append(InContext(row["answer"], before=row["prompt"], id=document.name))
        else:
            texts.append(InContext(row["middle"], row["before"], row["after"], document.name))
    return rows_of_texts(trained.tokenizer, texts, template=trained.uses_template)


def _supervised(trained: TrainedModel, documents: Sequence[tuple[str, str]]) -> list[TextRow]:
    """Return rows tokenised as in training, with their last answers to score."""
    tokenizer = trained.tokenizer
    special = SpecialIds.of(tokenizer)
    encode = RowEncoder(tokenizer, int(special.require("eos").eos or 0))
    rows = []
    for name, text in documents:
        encoded = encode(text)
        ids = np.array(encoded.ids, dtype=np.int64)
        start, stop = last_answer(np.array(encoded.learnt, dtype=bool))
        scored = np.zeros(len(ids), dtype=bool)
        scored[start:stop] = True
        row = json.loads(text)
        answer = row.get("answer", row.get("middle")) or row["messages"][-1]["content"]
        rows.append(row_of_ids(tokenizer, ids, scored, answer, name, exact=True, unscored=0))
    return rows


def stored_rows(trained: TrainedModel, path: Path, numbers: Sequence[int] | None = None) -> list[TextRow]:
    """Return documents of a token store; one longer than the network takes is cut, and its later parts are named ``store:3+512``.

    Args:
        trained: the model.
        path: the store.
        numbers: numbers of the documents; None = all.
    """
    store, tokenizer = TokenStore.open(path), trained.tokenizer
    store.check_tokenizer(tokenizer)
    special = SpecialIds.of(tokenizer)
    limit = getattr(trained.model, "max_length", None)
    rows = []
    for number in range(store.n_documents) if numbers is None else numbers:
        document = store.document(number).astype(np.int64)
        exact = store.document_exact is not None and bool(store.document_exact[number])
        for start in range(0, len(document), limit or len(document)):
            ids = document[start:][:limit]
            ordinary = ~np.isin(ids, special.all)
            if start and not ordinary.any():
                continue  # the EOS alone
            text = tokenizer.decode(ids.tolist())
            whole = len(ids) == len(document)
            end = int(ids[-1] == special.eos)
            spelled = exact and (whole or tokenizer.encode(text) == ids[: len(ids) - end].tolist())
            rows.append(
                row_of_ids(
                    tokenizer,
                    ids,
                    ordinary,
                    text,
                    f"{path.name}:{number}" + f"+{start}" * (start > 0),
                    exact=spelled,
                    n_bytes=int(store.document_bytes[number]) if whole else None,
                    unscored=len(ids) - int(ordinary.sum()) - end,
                )
            )
    return rows
