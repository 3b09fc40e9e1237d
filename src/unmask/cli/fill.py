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
        list[str] | None, typer.Argument(help="Texts with [MASK] where a token is wanted; - or nothing reads lines.")
    ] = None,
    source: TextFile = None,
    model: Model = DEMO_RUN,
    top: Annotated[int, typer.Option(help="Alternatives to show for every blank.")] = 5,
    longest: Annotated[
        int | None,
        typer.Option(
            help="A text has one [MASK], which stands for 1 to so many tokens: the likeliest filling of any length."
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
    """Fill every [MASK] of a text, together, and show what else each could be. Among several texts, one without a blank comes back as it is."""
    from unmask.cli.sample_text import Tally, watched_predict
    from unmask.cli.screen import note, print_json, print_json_line, show
    from unmask.data.traces.unseen import unseen_words
    from unmask.runs import load_run
    from unmask.text.filling import fill_texts, fill_unknown_lengths

    if top < 1:
        raise ValueError(f"--top {top} shows no alternative: give 1 or more.")
    if source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    else:
        texts = read_standard_input() if not text or text == ["-"] else text
    if not texts:
        raise ValueError(
            "There is no text to fill: give it as an argument, in a file (--input), or line by line on standard input."
        )
    loaded, tally = load_run(model, which, device, dtype), Tally()
    if remark := unseen_words(loaded.tokenizer, texts):
        note(remark)
    network = loaded.model
    rules_for = partial(decoding.rules, network, loaded.tokenizer)
    if longest is not None:
        if watch or trace is not None:
            raise ValueError(
                "--longest decodes all lengths and keeps one, and --watch and --trace show one decode: give one of them."
            )
        found = fill_unknown_lengths(
            network, loaded.tokenizer, texts, rules_for, longest=longest, seed=decoding.seed, top=top, count=tally.add
        )
    else:
        shows_one_batch(len(texts), batch_size, watch or trace is not None)
        watched = partial(watched_predict, watch=watch, page=trace, title="unmask fill")
        found = fill_texts(
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
        print_json([filling.as_dict() for filling in found])
        found = iter(())
    for filling in found:
        if as_lines:
            print_json_line(filling.as_dict())
            continue
        show(filling.text, style="bold")
        for number, blank in enumerate(filling.blanks, start=1):
            show(f"  blank {number}: {blank}", style="dim")
    tally.show()
