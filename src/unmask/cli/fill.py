"""``unmask fill``: fill the blanks of a text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli.batch_options import DEFAULT_BATCH, BatchOptions, batch_options
from unmask.cli.decoding import Decoding, decoding_options
from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options
from unmask.cli.options import BatchSize, Json, JsonLines, OutFolder, TracePage, Watch
from unmask.cli.texts import read_hole_rows, read_standard_input, read_texts, shows_one_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unmask.decode.rules import Rules
    from unmask.text.program_rows import HiddenPart
    from unmask.text.results import Filling


@decoding_options(order="top_prob", temperature=0.0)
@model_options
@batch_options
def fill(
    decoding: Decoding,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts with [MASK] at each blank ([MASK:5]: five tokens, [MASK:2-6]: two to six); - or no text reads lines from standard input."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help='File with one text per line, or with rows (.jsonl): {"before", "after"} or {"prefix", "suffix"} with one blank of '
            'unknown length between, or {"text"}; other fields are carried to the output.',
        ),
    ] = None,
    binary: Annotated[
        Path | None,
        typer.Option(
            help="ELF program or library whose --function is disassembled and filled, for models of instruction traces."
        ),
    ] = None,
    function: Annotated[str | None, typer.Option(help="Name of the function, or its address as in 0x401000.")] = None,
    hide: Annotated[
        str,
        typer.Option(
            help="What is masked in the function: operand (each in turn), instruction (each in turn), or the number of an instruction."
        ),
    ] = "operand",
    grammar: Annotated[
        bool,
        typer.Option(
            "--grammar", help="Fill only what makes well-formed instructions, for models of instruction traces."
        ),
    ] = False,
    chosen: ModelChoice = DEFAULT_MODEL,
    top: Annotated[int, typer.Option(help="Number of candidates to show for every blank.")] = 5,
    longest: Annotated[
        int | None,
        typer.Option(
            help="Largest length of a blank, in tokens; the most likely filling is shown. By default 8 between two texts, and 1 for [MASK]."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Largest time of the command. Finished rows are printed, and the others are named as an error."
        ),
    ] = None,
    batch_size: BatchSize = 64,
    out: OutFolder = None,
    batch: BatchOptions = DEFAULT_BATCH,
    watch: Watch = False,
    trace: TracePage = None,
    as_json: Json = False,
    as_lines: JsonLines = False,
) -> None:
    """Fill every [MASK] of a text, and show the candidates of each. Of several texts, those without a [MASK] stay unchanged."""
    from unmask.cli.sample_text import Tally, watched_predict
    from unmask.cli.screen import note, print_json, print_json_line, show
    from unmask.cli.time_limit import TimeIsUp, TimeLimit, unfinished
    from unmask.data.traces.unseen import unseen_words
    from unmask.text.blanks import TypedText
    from unmask.text.filling import fill_rows, fill_texts, fill_unknown_lengths, no_single_decode
    from unmask.text.holes import Hole

    limit = None if seconds is None else TimeLimit(seconds)
    if top < 1:
        raise ValueError(f"--top {top} is too small: choose 1 or more.")
    if (binary is None) != (function is None) or (binary is not None and (text or source)):
        raise ValueError(
            "--binary FILE and --function NAME belong together, and replace the texts and --input: unmask fill --binary a.out --function main."
        )
    if out is not None:
        from unmask.cli.batch import require_only_input, run_batch
        from unmask.cli.batch_work import FillWork

        others = {
            "TEXT": text,
            "--watch": watch,
            "--trace": trace,
            "--seconds": seconds,
            "--grammar": grammar,
            "--jsonl": as_lines,
            "--binary": binary,
        }
        source = require_only_input(out, source, others)
        run_batch(FillWork(chosen, source, decoding, top, longest, batch_size), out, batch, as_json)
        return
    rows = None if source is None else read_hole_rows(source)
    if rows is not None:
        texts = text or []
        rows = [*((f"text {n}", {"text": each}) for n, each in enumerate(texts, start=1)), *rows]
    elif source is not None:
        texts = [*(text or ()), *read_texts(source, "text")]
    elif binary is None:
        texts = read_standard_input() if not text or text == ["-"] else text
    else:
        texts = []
    if not texts and rows is None and binary is None:
        raise ValueError(
            "There is no text to fill: pass it as an argument, in a file (--input), or line by line on standard input."
        )
    shows = watch or trace is not None
    loaded, tally = chosen.load(), Tally()
    decoding = decoding.with_defaults_of(loaded.folder)
    network, tokenizer = loaded.model, loaded.tokenizer
    parts: list[HiddenPart] = []
    if binary is not None and function is not None:
        from unmask.text.program_rows import hidden_parts, read_function

        program = read_function(binary, function)
        note(f"{program.name} · {program.architecture} · {program.trace.count('[NEXT]') + 1} instructions")
        parts = list(hidden_parts(tokenizer, program, hide, open_length=longest is not None))
        rows = [(f"instruction {part.row['instruction']}", part.row) for part in parts]
    names = [f"text {n}" for n in range(1, len(texts) + 1)] if rows is None else [_name(*row) for row in rows]
    rules = partial(decoding.rules, network, tokenizer)
    shared: dict[str, Any] = {
        "rules_for": _grammatical(decoding, tokenizer, bool(parts) and hide == "operand", rules) if grammar else rules,
        "seed": decoding.seed,
        "top": top,
        "batch_size": batch_size,
        "first": None if limit is None else 1,  # small batches first, so that a short time shows some rows
        "count": tally.add,
        "observers": () if limit is None else (limit,),
    }
    if rows is not None:
        holes = [Hole.of(tokenizer, row, where) for where, row in rows]
        texts = ["".join(hole.prompt.given) for hole in holes]
        if shows and (longest is not None or any(hole.is_open for hole in holes)):
            raise no_single_decode()
    elif longest is not None and shows:
        raise no_single_decode()
    if remark := unseen_words(tokenizer, texts):
        note(remark)
    fillings: Iterator[Filling]
    if rows is not None and not shows:
        fillings = fill_rows(network, tokenizer, holes, longest=longest, note=note, **shared)
    elif longest is not None:
        fillings = fill_unknown_lengths(network, tokenizer, texts, longest=longest, **shared)
    else:
        if rows is not None:
            texts = [row["text"] for _, row in rows]
        if shows and any(TypedText.of(tokenizer, each).is_open for each in texts):
            raise no_single_decode()
        shows_one_batch(len(texts), batch_size, shows)
        watched = partial(watched_predict, watch=watch, page=trace, title="unmask fill")
        fillings = fill_texts(network, tokenizer, texts, predict=watched, **shared)
    done: list[dict[str, Any]] = []
    error = None
    try:
        for filling in fillings:
            part = parts[len(done)] if parts else None
            filled = None if part is None else part.filled(filling.text)
            done.append(filling.as_dict() | ({} if filled is None else {"filled": filled}))
            if as_lines and not as_json:
                print_json_line(done[-1])
            elif not as_json:
                show(
                    filling.text if part is None else f"{part.row['instruction']:>4}  {part.row['given']}  →  {filled}",
                    style="bold",
                )
                for number, blank in enumerate(filling.blanks, start=1):
                    show(f"  blank {number}: {blank}", style="dim")
    except TimeIsUp:
        error = unfinished(names, len(done), limit.seconds if limit is not None else 0)
    if as_json:
        print_json(done)
    tally.show()
    if error is not None:
        raise error


def _grammatical(
    decoding: Decoding, tokenizer: Any, one_operand: bool, rules_for: Callable[[int], Rules]
) -> Callable[[int], Rules]:
    """Return rules whose constraint is the grammar of instructions.

    Raises:
        ValueError: another constraint is given too.
    """
    from dataclasses import replace

    from unmask.decode.logits.instruction_grammar import instruction_grammar

    if decoding.regex is not None or decoding.require:
        raise ValueError("--grammar, --regex and --require each decide which tokens may occur together. Choose one.")
    constraint = instruction_grammar(tokenizer, one_operand)
    return lambda blanks: replace(rules_for(blanks), constraint=constraint)


def _name(where: str, row: dict[str, Any]) -> str:
    """Return the name of a row: its id, or its place."""
    return f"id {row['id']!r}" if "id" in row else where
