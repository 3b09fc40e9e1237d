"""``unmask fill``: fill the blanks of a text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from unmask.cli.decoding import Decoding, decoding_options
from unmask.cli.options import DEMO_RUN, BatchSize, Json, JsonLines, Model, TextFile, TracePage, Watch, Which
from unmask.cli.texts import in_batches, read_texts


@decoding_options(order="top_prob", temperature=0.0)
def fill(
    decoding: Decoding,
    text: Annotated[list[str] | None, typer.Argument(help="Texts with [MASK] where a token is wanted; - or nothing reads lines.")] = None,
    source: TextFile = None,
    model: Model = DEMO_RUN,
    top: Annotated[int, typer.Option(help="Alternatives to show for every blank.")] = 5,
    batch_size: BatchSize = 64,
    watch: Watch = False,
    trace: TracePage = None,
    which: Which = "last",
    as_json: Json = False,
    as_lines: JsonLines = False,
) -> None:
    """Fill every [MASK] of a text, together, and show what else each could be."""
    from unmask.build import load
    from unmask.cli.screen import RESULTS, print_json

    if top < 1:
        raise ValueError(f"--top {top} shows no alternative: give 1 or more.")
    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = [line.rstrip("\n") for line in sys.stdin] if not text or text == ["-"] else text
    if not texts:
        raise ValueError("There is no text to fill: give it as an argument, in a file (--input), or line by line on standard input.")
    loaded = load(model, which)
    found = fill_texts(loaded.model, loaded.tokenizer, texts, decoding, top=top, batch_size=batch_size, watch=watch, trace=trace)
    if as_json:
        print_json(list(found))
        return
    for answer in found:
        if as_lines:
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            continue
        RESULTS.print(answer["text"], style="bold", highlight=False, markup=False)
        for line in alternatives(answer):
            RESULTS.print(f"  {line}", style="dim", highlight=False, markup=False, soft_wrap=True)


def alternatives(answer: dict[str, Any]) -> list[str]:
    """One line per blank: what else it could be, the likeliest first."""
    return [
        f"blank {number}: " + " · ".join(f"{a['token']!r} {a['probability']:.0%}" for a in blank)
        for number, blank in enumerate(answer["blanks"], start=1)
    ]


def fill_texts(
    model: Any, tokenizer: Any, texts: list[str], decoding: Decoding, *, top: int, batch_size: int = 64, watch: bool = False, trace: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Fill texts, a batch at a time.

    Yields:
        For every text: ``text`` filled, ``steps`` taken, and ``blanks``: for each blank its alternatives, the likeliest first,
        as ``{"token", "probability"}``.
    """
    from unmask.cli.sampling import left_padded, watched_predict
    from unmask.decode.alternatives import Alternatives

    rows = [tokenizer.encode(text, allow_mask=True) for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if tokenizer.mask_token_id not in row:
            raise ValueError(f"There is nothing to fill in {text!r}: write {tokenizer.mask_token} where a token is wanted, such as 'The [MASK] statement'.")
    if not rows:
        raise ValueError(f"There is no text to fill: give one with a {tokenizer.mask_token}, or lines on standard input.")
    predictor = decoding.predictor(model, tokenizer, blanks=max(row.count(tokenizer.mask_token_id) for row in rows))
    for which_rows in in_batches(len(rows), batch_size, shows_one=watch or trace is not None):
        alternatives = Alternatives(top)
        predictor.observers = (alternatives,)
        batch = left_padded([rows[i] for i in which_rows], tokenizer.pad_token_id, which_rows.start)
        labels = [texts[i][:32] for i in which_rows]
        found, _ = watched_predict(predictor, batch, watch=watch, page=trace, title="unmask fill", labels=labels)
        answers: list[dict[str, Any]] = [
            {"prompt": texts[i], "text": found["text"][place], "steps": found["steps_taken"][place], "blanks": []}
            for place, i in enumerate(which_rows)
        ]
        for (row, _), (ids, odds) in sorted(alternatives.found.items()):
            answers[row]["blanks"].append(
                [{"token": tokenizer.token_text(t), "probability": round(p, 4)} for t, p in zip(ids, odds, strict=True)]
            )
        yield from answers
