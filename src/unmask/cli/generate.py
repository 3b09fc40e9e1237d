"""``unmask generate``: continue prompts, or generate unconditionally."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.batch_options import DEFAULT_BATCH, BatchOptions, batch_options
from unmask.cli.decoding import Decoding, decoding_options
from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options
from unmask.cli.options import BatchSize, Json, JsonLines, OutFolder, TextFile, TracePage, Watch
from unmask.cli.texts import read_prompts, shows_one_batch


@decoding_options(temperature=0.8)
@model_options
@batch_options
def generate(
    decoding: Decoding,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", "-p", help="Text to continue; repeat for several. Without it, generate unconditionally."
        ),
    ] = None,
    source: TextFile = None,
    chosen: ModelChoice = DEFAULT_MODEL,
    new_tokens: Annotated[int, typer.Option(help="Number of tokens to append.")] = 64,
    samples: Annotated[int, typer.Option(help="Number of samples per prompt.")] = 1,
    batch_size: BatchSize = 64,
    out: OutFolder = None,
    batch: BatchOptions = DEFAULT_BATCH,
    watch: Watch = False,
    trace: TracePage = None,
    as_json: Json = False,
    as_lines: JsonLines = False,
) -> None:
    """Continue prompts, or generate unconditionally, by iterative unmasking."""
    from unmask.cli.sample_text import Tally, watched_predict
    from unmask.cli.screen import note, on_terminal, print_json, print_json_line, show
    from unmask.data.prompts import Prompt
    from unmask.text.generating import generate_texts

    if samples < 1 or new_tokens < 1:
        raise ValueError(f"--samples {samples} and --new-tokens {new_tokens} must both be 1 or more.")
    if out is not None:
        from unmask.cli.batch import require_only_input, run_batch
        from unmask.cli.batch_work import GenerateWork

        others = {"--prompt": prompt, "--watch": watch, "--trace": trace, "--jsonl": as_lines}
        source = require_only_input(out, source, others)
        run_batch(GenerateWork(chosen, source, decoding, new_tokens, samples, batch_size), out, batch, as_json)
        return
    given = [*(prompt or ()), *(read_prompts(source) if source is not None else ())] or [""]
    each = [text for text in given for _ in range(samples)]
    if batch_size < 1:
        raise ValueError(f"--batch-size {batch_size} is too small: choose 1 or more.")
    shows_one_batch(len(each), batch_size, watch or trace is not None)
    loaded, tally = chosen.load(), Tally()
    decoding = decoding.with_defaults_of(loaded.folder)
    prompts = [(Prompt.of if isinstance(p, str) else Prompt.chat)(loaded.tokenizer, p) for p in each]
    shown = 24 if on_terminal() or trace is not None else None
    labels = [
        f"{prompt.text[:shown] or 'unconditional'}" + (f" · {i + 1}" if len(prompts) > 1 else "")
        for i, prompt in enumerate(prompts)
    ]
    generations = generate_texts(
        loaded.model,
        loaded.tokenizer,
        prompts,
        partial(decoding.rules, loaded.model, loaded.tokenizer),
        new_tokens=new_tokens,
        seed=decoding.seed,
        batch_size=batch_size,
        predict=partial(watched_predict, watch=watch, page=trace, title="unmask generate"),
        labels=labels,
        count=tally.add,
        with_probabilities=False,
    )
    answers: list[dict[str, object]] = []
    for label, generation in zip(labels, generations, strict=True):
        answers.append(generation.as_dict())
        if as_lines:
            print_json_line(answers[-1])
        elif not as_json:
            show(generation.text if len(prompts) == 1 else f"── {label}\n{generation.text}\n")
    if as_json:
        print_json(answers)
    tally.show()
    if trace is not None:
        note(f"Open {Path(trace).resolve()}" + (" in a browser." if trace.suffix == ".html" else "."))
