"""``unmask fill``: fill the blanks of a text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli.decoding import Decoding, decoding_options
from unmask.cli.options import (
    DEMO_RUN,
    BatchSize,
    Device,
    Dtype,
    Json,
    JsonLines,
    Model,
    TextFile,
    TracePage,
    Watch,
    Which,
)
from unmask.cli.texts import in_batches, read_texts

if TYPE_CHECKING:
    from unmask.cli.sampling import Tally


@decoding_options(order="top_prob", temperature=0.0)
def fill(
    decoding: Decoding,
    text: Annotated[list[str] | None, typer.Argument(help="Texts with [MASK] where a token is wanted; - or nothing reads lines.")] = None,
    source: TextFile = None,
    model: Model = DEMO_RUN,
    top: Annotated[int, typer.Option(help="Alternatives to show for every blank.")] = 5,
    longest: Annotated[
        int | None, typer.Option(help="A text has one [MASK], which stands for 1 to so many tokens: the likeliest filling of any length.")
    ] = None,
    batch_size: BatchSize = 64,
    watch: Watch = False,
    trace: TracePage = None,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
    as_lines: JsonLines = False,
) -> None:
    """Fill every [MASK] of a text, together, and show what else each could be."""
    from unmask.build import load
    from unmask.cli.sampling import Tally
    from unmask.cli.screen import RESULTS, print_json

    if top < 1:
        raise ValueError(f"--top {top} shows no alternative: give 1 or more.")
    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = [line.rstrip("\n") for line in sys.stdin] if not text or text == ["-"] else text
    if not texts:
        raise ValueError("There is no text to fill: give it as an argument, in a file (--input), or line by line on standard input.")
    loaded, tally = load(model, which, device, dtype), Tally()
    network = loaded.model
    if longest is not None:
        if watch or trace is not None:
            raise ValueError("--longest decodes all lengths and keeps one, and --watch and --trace show one decode: give one of them.")
        found = fill_any(network, loaded.tokenizer, texts, decoding, longest=longest, top=top, tally=tally)
    else:
        found = fill_texts(
            network, loaded.tokenizer, texts, decoding, top=top, batch_size=batch_size, watch=watch, trace=trace, tally=tally
        )
    if as_json:
        print_json(list(found))
        found = iter(())
    for answer in found:
        if as_lines:
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            continue
        RESULTS.print(answer["text"], style="bold", highlight=False, markup=False)
        for line in alternatives(answer):
            RESULTS.print(f"  {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
    tally.show()


def alternatives(answer: dict[str, Any]) -> list[str]:
    """One line per blank: what else it could be, the likeliest first."""
    return [
        f"blank {number}: " + " · ".join(f"{a['token']!r} {a['probability']:.0%}" for a in blank)
        for number, blank in enumerate(answer["blanks"], start=1)
    ]


def fill_texts(
    model: Any,
    tokenizer: Any,
    texts: list[str],
    decoding: Decoding,
    *,
    top: int,
    batch_size: int = 64,
    watch: bool = False,
    trace: Path | None = None,
    tally: Tally | None = None,
) -> Iterator[dict[str, Any]]:
    """Fill texts, a batch at a time; what it cost goes to ``tally``.

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
        if tally is not None:
            tally.add(sum(rows[i].count(tokenizer.mask_token_id) for i in which_rows), max(found["steps_taken"]), max(found["time_taken"]))
        answers: list[dict[str, Any]] = [
            {"prompt": texts[i], "text": found["text"][place], "steps": found["steps_taken"][place], "blanks": []}
            for place, i in enumerate(which_rows)
        ]
        for (row, _), (ids, odds) in sorted(alternatives.found.items()):
            answers[row]["blanks"].append(
                [{"token": tokenizer.token_text(t), "probability": round(p, 4)} for t, p in zip(ids, odds, strict=True)]
            )
        yield from answers


def fill_any(
    model: Any, tokenizer: Any, texts: list[str], decoding: Decoding, *, longest: int, top: int, tally: Tally
) -> Iterator[dict[str, Any]]:
    """Fill the one blank of each text with 1 to ``longest`` tokens, whichever filling is likeliest by its mean log-probability.

    Yields:
        As :func:`fill_texts`; the alternatives of the blank are the best fillings of other lengths, each with the geometric mean of
        its tokens' probabilities.
    """
    from unmask.contracts import SpecialIds
    from unmask.decode.constraints import Automaton
    from unmask.decode.lengths import fill_any_length

    if longest < 1:
        raise ValueError(f"--longest {longest} leaves no room for a token: give 1 or more.")
    mask, rules, special = tokenizer.mask_token_id, decoding.rules(model, tokenizer, longest), SpecialIds.of(tokenizer)
    lengths = list(range(1, longest + 1))
    if isinstance(rules.constraint, Automaton) and rules.constraint.each_run:
        lengths = [n for n in lengths if rules.constraint.accepts_length(n)]
        if not lengths:
            raise ValueError(f"At no length up to {longest} tokens does a filling match --regex {decoding.regex!r}: raise --longest, or change the pattern.")
    for text in texts:
        row = tokenizer.encode(text, allow_mask=True)
        if row.count(mask) != 1:
            raise ValueError(f"--longest fills one blank of any length, and {text!r} has {row.count(mask)}: write exactly one {tokenizer.mask_token}.")
        place = row.index(mask)
        tried = fill_any_length(model, row[:place], row[place + 1 :], lengths, rules, special=special, seed=decoding.seed, device=next(model.parameters()).device)
        tally.add(sum(lengths), tried.decoded.evaluations, float(tried.decoded.time_taken.max()))
        best = tried.scores.argsort(descending=True)[:top].tolist()
        fillings = [tokenizer.decode(tried.decoded.ids[n, place : place + lengths[n]].tolist()) for n in best]
        odds = [round(float(tried.scores[n].exp()), 4) for n in best]
        blank = [{"token": filling, "probability": p} for filling, p in zip(fillings, odds, strict=True)]
        yield {"prompt": text, "text": tokenizer.decode(tried.ids.tolist()), "steps": int(tried.decoded.steps_taken[best[0]]), "blanks": [blank]}
