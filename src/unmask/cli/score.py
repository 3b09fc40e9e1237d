"""``unmask score``: log-probabilities of texts."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options
from unmask.cli.options import Json, Seed, TextFile
from unmask.cli.texts import read_standard_input, read_texts


@model_options
def score(
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts to score; - or no text reads lines from standard input.")
    ] = None,
    source: TextFile = None,
    chosen: ModelChoice = DEFAULT_MODEL,
    bound: Annotated[
        bool,
        typer.Option("--bound", help="Compute the any-order likelihood bound instead of the pseudo-log-likelihood."),
    ] = False,
    samples: Annotated[int, typer.Option(help="With --bound: number of averaged passes.")] = 64,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score texts in nats: pseudo-log-likelihood (every token given all others), or a bound on the log-likelihood."""
    from unmask.cli.screen import counting, print_json, show, table
    from unmask.evaluate.scoring import score_texts

    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = read_standard_input() if not text or text == ["-"] else text
    if not texts:
        raise ValueError(
            "There is no text to score: pass it as an argument, in a file (--input), or line by line on standard input."
        )
    loaded = chosen.load()
    network: Any = loaded.model
    with counting("scoring") as progress:
        scores = score_texts(
            network, loaded.tokenizer, texts, samples=samples if bound else None, seed=seed, progress=progress
        )
    kind = "log-likelihood bound" if bound else "pseudo-log-likelihood"
    if as_json:
        print_json({"score": kind, "rows": [each.as_dict() for each in scores]})
        return
    columns = ["text", "total", *(["±"] if bound else []), "per token", "tokens", "unscored"]
    cells = [
        [
            s.text,
            figure(s.nats, 2),
            *([figure(s.error, 2)] if bound else []),
            figure(s.per_token, 3),
            str(s.scored + s.unscored),
            str(s.unscored),
        ]
        for s in scores
    ]
    table(f"{kind}, nats (higher is more likely{'; ± = Monte Carlo standard error' if bound else ''})", columns, cells)
    if unscored := sum(s.unscored > 0 for s in scores):
        show(f"{unscored} of {len(scores)} texts have unknown words: these cost nothing, so the score is too high.")
    if altered := sum(not s.exact for s in scores):
        show(
            f"{altered} of {len(scores)} scores are not of the exact text: its tokens spell another one (unknown words, lower case or lost spaces).",
        )


def figure(number: float, digits: int) -> str:
    """Format a number for a table; a dash for NaN."""
    return f"{number:.{digits}f}" if math.isfinite(number) else "-"
