"""``unmask fill``: fill the blanks of a text."""

from __future__ import annotations

from functools import partial
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
from unmask.cli.texts import read_standard_input, read_texts, shows_one_batch


@decoding_options(order="top_prob", temperature=0.0)
def fill(
    decoding: Decoding,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Texts with [MASK] at each blank; - or no text reads lines from standard input."),
    ] = None,
    source: TextFile = None,
    model: Model = DEMO_RUN,
    top: Annotated[int, typer.Option(help="Number of candidates to show for every blank.")] = 5,
    longest: Annotated[
        int | None,
        typer.Option(
            help="Largest length of a filling, in tokens, for texts with one [MASK] of unknown length; the most likely one is shown."
        ),
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
    """Fill every [MASK] of a text, and show the candidates of each. Of several texts, those without a [MASK] stay unchanged."""
    from unmask.cli.sample_text import Tally, watched_predict
    from unmask.cli.screen import note, print_json, print_json_line, show
    from unmask.data.traces.unseen import unseen_words
    from unmask.runs import load_run
    from unmask.text.filling import fill_texts, fill_unknown_lengths

    if top < 1:
        raise ValueError(f"--top {top} is too small: choose 1 or more.")
    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = read_standard_input() if not text or text == ["-"] else text
    if not texts:
        raise ValueError(
            "There is no text to fill: pass it as an argument, in a file (--input), or line by line on standard input."
        )
    loaded, tally = load_run(model, which, device, dtype), Tally()
    if remark := unseen_words(loaded.tokenizer, texts):
        note(remark)
    network = loaded.model
    rules_for = partial(decoding.rules, network, loaded.tokenizer)
    if longest is not None:
        if watch or trace is not None:
            raise ValueError(
                "--longest decodes every length, and --watch and --trace show a single decode: leave one of them out."
            )
        fillings = fill_unknown_lengths(
            network, loaded.tokenizer, texts, rules_for, longest=longest, seed=decoding.seed, top=top, count=tally.add
        )
    else:
        shows_one_batch(len(texts), batch_size, watch or trace is not None)
        watched = partial(watched_predict, watch=watch, page=trace, title="unmask fill")
        fillings = fill_texts(
            network,
            loaded.tokenizer,
            texts,
            rules_for,
            seed=decoding.seed,
            top=top,
            batch_size=batch_size,
            predict=watched,
            count=tally.add,
        )
    if as_json:
        print_json([filling.as_dict() for filling in fillings])
        fillings = iter(())
    for filling in fillings:
        if as_lines:
            print_json_line(filling.as_dict())
            continue
        show(filling.text, style="bold")
        for number, blank in enumerate(filling.blanks, start=1):
            show(f"  blank {number}: {blank}", style="dim")
    tally.show()
