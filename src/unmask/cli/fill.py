"""``unmask fill``: fill the blanks of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from unmask.cli.texts import in_batches, read_standard_input, read_texts

if TYPE_CHECKING:
    from unmask.cli.sampling import Tally
    from unmask.data.prompts import Prompt


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
    """Fill every [MASK] of a text, together, and show what else each could be. Among several texts, one without a blank comes back as it is."""
    from unmask.build import load
    from unmask.cli.sampling import Tally
    from unmask.cli.screen import note, print_json, print_json_line, show
    from unmask.data.traces.unseen import unseen_words

    if top < 1:
        raise ValueError(f"--top {top} shows no alternative: give 1 or more.")
    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = read_standard_input() if not text or text == ["-"] else text
    if not texts:
        raise ValueError("There is no text to fill: give it as an argument, in a file (--input), or line by line on standard input.")
    loaded, tally = load(model, which, device, dtype), Tally()
    if remark := unseen_words(loaded.tokenizer, texts):
        note(remark)
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
            print_json_line(answer)
            continue
        show(answer["text"], style="bold")
        for line in alternatives(answer):
            show(f"  {line}", style="dim")
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

    Raises:
        ValueError: no texts, or a single one that has no blank.
    """
    from unmask.cli.patterns import fitted
    from unmask.cli.sampling import left_padded, watched_predict
    from unmask.data.prompts import Prompt
    from unmask.decode.alternatives import Alternatives

    if not texts:
        raise ValueError(f"There is no text to fill: give one with a {tokenizer.mask_token}, or lines on standard input.")
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _refuse_a_lone_complete_text(prompts, texts)
    predictor = decoding.predictor(model, tokenizer, blanks=max(1, *(len(prompt.blanks) for prompt in prompts)))
    rules = predictor.rules
    for which_rows in in_batches(len(prompts), batch_size, shows_one=watch or trace is not None):
        answers = {i: _complete(texts[i]) for i in which_rows}
        open_rows = [i for i in which_rows if prompts[i].blanks]
        if open_rows:
            alternatives = Alternatives(top)
            predictor.observers = (alternatives,)
            predictor.rules = fitted(rules, tokenizer, [texts[i] for i in open_rows], [prompts[i].ids for i in open_rows])
            batch = left_padded([prompts[i].ids for i in open_rows], tokenizer.pad_token_id or 0, open_rows)
            labels = [texts[i][:32] for i in open_rows]
            found, _ = watched_predict(predictor, batch, watch=watch, page=trace, title="unmask fill", labels=labels)
            if tally is not None:
                tally.add(sum(len(prompts[i].blanks) for i in open_rows), max(found["steps_taken"]), max(found["time_taken"]))
            for place, i in enumerate(open_rows):
                row = found["ids"][place, -len(prompts[i].ids) :].tolist()
                answers[i] |= {"text": prompts[i].filled(row), "steps": found["steps_taken"][place]}
            for (place, _), (ids, odds) in sorted(alternatives.found.items()):
                answers[open_rows[place]]["blanks"].append(
                    [{"token": tokenizer.token_text(t), "probability": round(p, 4)} for t, p in zip(ids, odds, strict=True)]
                )
        yield from answers.values()


def _complete(text: str) -> dict[str, Any]:
    """The answer for a text without blanks: the text."""
    return {"prompt": text, "text": text, "steps": 0, "blanks": []}


def _refuse_a_lone_complete_text(prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
    """Among several texts one may be complete; a single one is a mistake.

    Raises:
        ValueError: the only text has no blank.
    """
    if len(texts) == 1 and not prompts[0].blanks:
        mask = prompts[0].tokenizer.mask_token
        raise ValueError(f"There is nothing to fill in {texts[0]!r}: write {mask} where a token is wanted, such as 'The {mask} statement'.")


def fill_any(
    model: Any, tokenizer: Any, texts: list[str], decoding: Decoding, *, longest: int, top: int, tally: Tally
) -> Iterator[dict[str, Any]]:
    """Fill the one blank of each text with 1 to ``longest`` tokens, whichever filling is likeliest by its mean log-probability.

    Yields:
        As :func:`fill_texts`; the alternatives of the blank are the best fillings of other lengths, each with the geometric mean of
        its tokens' probabilities.
    """
    from unmask.cli.patterns import fitted_to_lengths
    from unmask.contracts import SpecialIds
    from unmask.data.prompts import Prompt
    from unmask.decode.lengths import fill_any_length

    if longest < 1:
        raise ValueError(f"--longest {longest} leaves no room for a token: give 1 or more.")
    rules, special, all_lengths = decoding.rules(model, tokenizer, longest), SpecialIds.of(tokenizer), range(1, longest + 1)
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _refuse_a_lone_complete_text(prompts, texts)
    for text, prompt in zip(texts, prompts, strict=True):
        if not prompt.blanks:
            yield _complete(text)
            continue
        if len(prompt.blanks) != 1:
            raise ValueError(f"--longest fills one blank of any length, and {text!r} has {len(prompt.blanks)}: write exactly one {tokenizer.mask_token}.")
        row, (place,) = prompt.ids, prompt.blanks
        fitting, lengths = fitted_to_lengths(rules, tokenizer, text, row, all_lengths)
        if not lengths:
            raise ValueError(f"At no length up to {longest} tokens does a filling match --regex {decoding.regex!r}: raise --longest, or change the pattern.")
        tried = fill_any_length(model, row[:place], row[place + 1 :], lengths, fitting, special=special, seed=decoding.seed, device=next(model.parameters()).device)
        tally.add(sum(lengths), tried.decoded.evaluations, float(tried.decoded.time_taken.max()))
        best = tried.scores.argsort(descending=True)[:top].tolist()
        placed = [tried.decoded.ids[n, place : place + lengths[n]].tolist() for n in best]
        odds = [round(float(tried.scores[n].exp()), 4) for n in best]
        blank = [{"token": tokenizer.decode(ids), "probability": p} for ids, p in zip(placed, odds, strict=True)]
        yield {"prompt": text, "text": prompt.filled_with(placed[:1]), "steps": int(tried.decoded.steps_taken[best[0]]), "blanks": [blank]}
