"""``unmask score``: log-probabilities of texts."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from unmask.cli.mutants import HeatMap, Mutants, WildType, score_mutants
from unmask.cli.options import DEMO_RUN, Device, Dtype, Json, Model, Seed, TextFile, Which
from unmask.cli.texts import read_standard_input, read_texts


def score(
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts to score; - or no text reads lines from standard input.")
    ] = None,
    source: TextFile = None,
    model: Model = DEMO_RUN,
    bound: Annotated[
        bool,
        typer.Option("--bound", help="Compute the any-order likelihood bound instead of the pseudo-log-likelihood."),
    ] = False,
    samples: Annotated[int, typer.Option(help="With --bound: number of averaged passes.")] = 64,
    mutants: Mutants = None,
    wild_type: WildType = None,
    heat_map: HeatMap = None,
    seed: Seed = 0,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Score texts in nats: pseudo-log-likelihood (every token given all others), or a bound on the log-likelihood."""
    from unmask.cli.screen import counting, print_json, show, table
    from unmask.evaluate.scoring import score_texts
    from unmask.runs import load_run

    if mutants is not None:
        loaded = load_run(model, which, device, dtype)
        score_mutants(loaded.model, loaded.tokenizer, mutants, wild_type, heat_map, seed, as_json)
        return
    if wild_type is not None or heat_map is not None:
        raise ValueError(
            "--wild-type and --heat-map are for --mutants, a table of protein mutants. Give it, or leave them out."
        )
    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = read_standard_input() if not text or text == ["-"] else text
    if not texts:
        raise ValueError(
            "There is no text to score: pass it as an argument, in a file (--input), or line by line on standard input."
        )
    loaded = load_run(model, which, device, dtype)
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
