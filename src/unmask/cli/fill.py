"""``unmask fill``: fill the blanks of a text."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from unmask.cli.options import DEMO_RUN, Confidence, Json, Model, Seed, Steps, Threshold, TracePage, Watch, Which


def fill(
    text: Annotated[list[str] | None, typer.Argument(help="Texts with [MASK] where a token is wanted; - or nothing reads lines.")] = None,
    model: Model = DEMO_RUN,
    top: Annotated[int, typer.Option(help="Alternatives to show for every blank.")] = 5,
    steps: Steps = None,
    confidence: Confidence = "top_prob",
    threshold: Threshold = None,
    temperature: Annotated[float, typer.Option(help="Of the tokens; 0 = always the likeliest.")] = 0.0,
    seed: Seed = 0,
    watch: Watch = False,
    trace: TracePage = None,
    which: Which = "last",
    as_json: Json = False,
) -> None:
    """Fill every [MASK] of a text, together, and show what else each could be."""
    from unmask.build import load
    from unmask.cli.screen import RESULTS, print_json

    if top < 1:
        raise ValueError(f"--top {top} shows no alternative: give 1 or more.")
    texts = [line.rstrip("\n") for line in sys.stdin] if not text or text == ["-"] else text
    loaded = load(model, which)
    answers = fill_texts(
        loaded.model, loaded.tokenizer, texts, top=top, steps=steps, confidence=confidence, threshold=threshold,
        temperature=temperature, seed=seed, watch=watch, trace=trace,
    )  # fmt: skip
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        RESULTS.print(answer["text"], style="bold", highlight=False, markup=False)
        for line in alternatives(answer):
            RESULTS.print(f"  {line}", style="dim", highlight=False, markup=False, soft_wrap=True)


def alternatives(answer: dict[str, Any]) -> list[str]:
    """One line per blank: what else it could be, the likeliest first."""
    return [
        f"blank {number}: " + " · ".join(f"{a['token']!r} {a['probability']:.0%}" for a in blank)
        for number, blank in enumerate(answer["blanks"], start=1)
    ]


def fill_texts(model, tokenizer, texts, *, top, steps, confidence, threshold, temperature, seed, watch=False, trace=None):  # type: ignore[no-untyped-def]
    """Fill texts in one batch.

    Returns:
        For every text: ``text`` filled, ``steps`` taken, and ``blanks``: for each blank its alternatives, the likeliest first,
        as ``{"token", "probability"}``.
    """
    from unmask.cli.sampling import left_padded, predictor_from_options, watched_predict
    from unmask.decode.alternatives import Alternatives

    rows = [tokenizer.encode(text, allow_mask=True) for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if tokenizer.mask_token_id not in row:
            raise ValueError(f"There is nothing to fill in {text!r}: write {tokenizer.mask_token} where a token is wanted, such as 'The [MASK] statement'.")
    blanks = max(row.count(tokenizer.mask_token_id) for row in rows)
    predictor = predictor_from_options(
        model, tokenizer, steps=steps or blanks, confidence=confidence, threshold=threshold,
        temperature=temperature, top_k=None, top_p=None, seed=seed,
    )  # fmt: skip
    alternatives = Alternatives(top)
    predictor.observers = (alternatives,)
    batch = left_padded(rows, tokenizer.pad_token_id)
    found, _ = watched_predict(predictor, batch, watch=watch, page=trace, title="unmask fill", labels=[t[:32] for t in texts])
    answers = [{"prompt": t, "text": found["text"][i], "steps": found["steps_taken"][i], "blanks": []} for i, t in enumerate(texts)]
    for (row, _), tokens, probabilities in zip(
        alternatives.places.tolist(), alternatives.tokens.tolist(), alternatives.probabilities.tolist(), strict=True
    ):
        answers[row]["blanks"].append(
            [{"token": tokenizer.token_text(t), "probability": round(p, 4)} for t, p in zip(tokens, probabilities, strict=True)]
        )
    return answers
