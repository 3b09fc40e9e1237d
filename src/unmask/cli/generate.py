"""``unmask generate``: continue prompts, or write from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


@decoding_options(temperature=0.8)
def generate(
    decoding: Decoding,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Text to continue; repeat for several. None = from nothing.")] = None,
    source: TextFile = None,
    model: Model = DEMO_RUN,
    new_tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 64,
    samples: Annotated[int, typer.Option(help="Samples per prompt.")] = 1,
    batch_size: BatchSize = 64,
    watch: Watch = False,
    trace: TracePage = None,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
    as_lines: JsonLines = False,
) -> None:
    """Continue prompts (or write from nothing) by iterative unmasking."""
    from unmask.build import load
    from unmask.cli.patterns import fitted
    from unmask.cli.sampling import Tally, left_padded, watched_predict
    from unmask.cli.screen import note, on_terminal, print_json, print_json_line, show
    from unmask.data.prompts import Prompt

    if samples < 1 or new_tokens < 1:
        raise ValueError(f"--samples {samples} and --new-tokens {new_tokens} must both be 1 or more.")
    given = [*(prompt or ()), *(read_texts(source, "prompt") if source is not None else ())] or [""]
    prompts = [text for text in given for _ in range(samples)]
    batches = in_batches(len(prompts), batch_size, shows_one=watch or trace is not None)
    loaded = load(model, which, device, dtype)
    tokenizer = loaded.tokenizer
    read = [Prompt.of(tokenizer, text) for text in prompts]
    blanks = new_tokens + max(len(prompt.blanks) for prompt in read)
    shown = 24 if on_terminal() or trace is not None else None
    labels = [f"{text[:shown] or 'from nothing'}" + (f" · {i + 1}" if len(prompts) > 1 else "") for i, text in enumerate(prompts)]
    predictor = decoding.predictor(loaded.model, tokenizer, blanks=blanks, new_tokens=new_tokens)
    answers: list[dict[str, object]] = []
    tally, rules = Tally(), predictor.rules
    for which_rows in batches:
        predictor.rules = fitted(rules, tokenizer, [prompts[i] for i in which_rows], [read[i].ids for i in which_rows], new_tokens)
        batch = left_padded([read[i].ids for i in which_rows], tokenizer.pad_token_id or 0, which_rows)
        found, _ = watched_predict(
            predictor, batch, watch=watch, page=trace, title="unmask generate", labels=[labels[i] for i in which_rows]
        )
        tally.add(len(which_rows) * new_tokens, max(found["steps_taken"]), max(found["time_taken"]))
        for place, i in enumerate(which_rows):
            text = read[i].filled(found["ids"][place, -len(read[i].ids) - new_tokens :].tolist())
            answers.append({"prompt": prompts[i], "text": text, "steps_taken": found["steps_taken"][place], "time_taken": found["time_taken"][place]})
            if as_lines:
                print_json_line(answers[-1])
            elif not as_json:
                show(text if len(prompts) == 1 else f"── {labels[i]}\n{text}\n")
    if as_json:
        print_json(answers)
    tally.show()
    if trace is not None:
        note(f"Open {Path(trace).resolve()}" + (" in a browser." if trace.suffix == ".html" else "."))
