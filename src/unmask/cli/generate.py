"""``unmask generate``: continue prompts, or write from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import DEMO_RUN, Confidence, Json, Model, Seed, Steps, Threshold, TracePage, Watch, Which


def generate(
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Text to continue; repeat for several. None = from nothing.")] = None,
    model: Model = DEMO_RUN,
    new_tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 64,
    steps: Steps = None,
    samples: Annotated[int, typer.Option(help="Samples per prompt.")] = 1,
    confidence: Confidence = "random",
    threshold: Threshold = None,
    temperature: Annotated[float, typer.Option(help="Of the tokens; 0 = always the likeliest.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest tokens that make up this probability.")] = None,
    seed: Seed = 0,
    watch: Watch = False,
    trace: TracePage = None,
    which: Which = "last",
    as_json: Json = False,
) -> None:
    """Continue prompts (or write from nothing) by iterative unmasking."""
    from unmask.build import load
    from unmask.cli.sampling import left_padded, predictor_from_options, watched_predict
    from unmask.cli.screen import NOTES, print_json

    if samples < 1 or new_tokens < 1:
        raise ValueError(f"--samples {samples} and --new-tokens {new_tokens} must both be 1 or more.")
    loaded = load(model, which)
    tokenizer = loaded.tokenizer
    prompts = [text for text in (prompt or [""]) for _ in range(samples)]
    rows = [tokenizer.encode(text, allow_mask=True) for text in prompts]
    predictor = predictor_from_options(
        loaded.model, tokenizer, steps=steps or new_tokens, confidence=confidence, threshold=threshold,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, new_tokens=new_tokens,
    )  # fmt: skip
    labels = [f"{text[:24] or 'from nothing'}" + (f" · {i + 1}" if len(prompts) > 1 else "") for i, text in enumerate(prompts)]
    batch = left_padded(rows, tokenizer.pad_token_id or 0)
    found, _ = watched_predict(predictor, batch, watch=watch, page=trace, title="unmask generate", labels=labels)
    if as_json:
        keys = ("text", "steps_taken", "time_taken")
        print_json([{"prompt": p, **{k: found[k][i] for k in keys}} for i, p in enumerate(prompts)])  # type: ignore[literal-required]
        return
    for number, text in enumerate(found["text"]):
        print(text if len(prompts) == 1 else f"── {labels[number]}\n{text}\n")
    seconds = max(found["time_taken"])
    NOTES.print(
        f"{len(prompts) * new_tokens} tokens · {max(found['steps_taken'])} evaluations · {seconds:.2f} s · {len(prompts) * new_tokens / seconds:,.0f} tokens/s",
        style="dim", highlight=False,
    )  # fmt: skip
    if trace is not None:
        NOTES.print(f"Open {Path(trace).resolve()} in a browser.", highlight=False)
