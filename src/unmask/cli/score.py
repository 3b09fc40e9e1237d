"""``unmask score``: how likely lines of text are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unmask.cli.options import DEMO_RUN, Device, Dtype, Json, Model, Seed, Which


def score(
    text: Annotated[list[str] | None, typer.Argument(help="Texts to score; - or nothing reads lines.")] = None,
    model: Model = DEMO_RUN,
    bound: Annotated[bool, typer.Option("--bound", help="The any-order likelihood bound, instead of the pseudo-log-likelihood.")] = False,
    samples: Annotated[int, typer.Option(help="With --bound: passes that are averaged.")] = 64,
    seed: Seed = 0,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Score texts: the pseudo-log-likelihood of each (every token given all others), or the likelihood bound; in nats."""
    import numpy as np

    from unmask.build import load
    from unmask.cli.screen import counting, print_json, table
    from unmask.contracts import SpecialIds
    from unmask.evaluate.likelihood import bound as likelihood_bound
    from unmask.evaluate.pseudo import pseudo_log_likelihood
    from unmask.evaluate.windows import Windows

    texts = [line.rstrip("\n") for line in sys.stdin] if not text or text == ["-"] else text
    loaded = load(model, which, device, dtype)
    special = SpecialIds.of(loaded.tokenizer)
    rows = [loaded.tokenizer.encode(t) for t in texts]
    longest = max(map(len, rows), default=0)
    if longest > loaded.model.max_length:
        raise ValueError(
            f"A text has {longest} tokens and this model reads {loaded.model.max_length} at a time (max_length). Score shorter texts, or "
            "use `unmask evaluate --data`, which cuts long documents into windows."
        )
    with counting("scoring") as progress:
        if bound:
            windows = Windows.of_rows(rows, loaded.model.max_length, texts)
            values = -likelihood_bound(loaded.model, windows, special, samples=samples, seed=seed, progress=progress).nats.mean(0)
        else:
            values = [float(np.nansum(v)) for v in pseudo_log_likelihood(loaded.model, rows, special, progress=progress)]
    kind = "log-likelihood bound" if bound else "pseudo-log-likelihood"
    answers = [(t, float(v), len(r)) for t, v, r in zip(texts, values, rows, strict=True)]
    if as_json:
        print_json({"score": kind, "rows": [{"text": t, "nats": nats, "tokens": n} for t, nats, n in answers]})
        return
    shown = [[t[:60], f"{nats:.2f}", f"{nats / max(1, n):.3f}", str(n)] for t, nats, n in answers]
    table(f"{kind}, nats (higher is likelier)", ["text", "total", "per token", "tokens"], shown)
