"""``unmask score``: log-probabilities of texts, of spans in context, and accuracy on minimal pairs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unmask.cli import score_options as options
from unmask.cli.batch_options import DEFAULT_BATCH, BatchOptions, batch_options
from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options
from unmask.cli.mutants import HeatMap, Mutants, WildType, score_mutants
from unmask.cli.options import Field, Json, Seed


@model_options
@batch_options
def score(
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts to score; - or no text reads lines from standard input.")
    ] = None,
    source: options.Source = None,
    chosen: ModelChoice = DEFAULT_MODEL,
    before: options.Before = "",
    after: options.After = "",
    spans: options.Spans = False,
    pairs: options.Pairs = None,
    form: options.Form = "original",
    bound: options.Bound = False,
    samples: options.Samples = 64,
    exact: options.Exact = False,
    per: options.Per = "sentence",
    out: options.Out = None,
    batch: BatchOptions = DEFAULT_BATCH,
    field: Field = "text",
    mutants: Mutants = None,
    wild_type: WildType = None,
    heat_map: HeatMap = None,
    seed: Seed = 0,
    as_json: Json = False,
    as_lines: options.Lines = False,
) -> None:
    """Score texts in nats: pseudo-log-likelihood (every token given all others), or a bound on the log-likelihood."""
    from unmask.cli.row_files import check_suffix
    from unmask.cli.score_input import read_pairs, read_score_rows
    from unmask.cli.score_output import print_pairs, print_scores
    from unmask.cli.screen import counting
    from unmask.contracts import SpecialIds
    from unmask.evaluate.minimal_pairs import score_pairs
    from unmask.evaluate.pseudo import PSEUDO_FORMS
    from unmask.evaluate.scoring import ScoringOptions, score_rows

    if mutants is not None:
        loaded = chosen.load()
        score_mutants(loaded.model, loaded.tokenizer, mutants, wild_type, heat_map, seed, as_json)
        return
    if wild_type is not None or heat_map is not None:
        raise ValueError(
            "--wild-type and --heat-map are for --mutants, a table of protein mutants. Give it, or leave them out."
        )
    PSEUDO_FORMS.choose(form)
    folder = out is not None and not out.suffix
    if out is not None and not folder:
        check_suffix(out)
    if pairs is not None and (text or source or before or after or spans or per != "sentence"):
        raise ValueError(
            "--pairs brings its own sentences: leave texts, --input, --before, --after, --spans and --per out."
        )
    scoring: ScoringOptions = {"form": form, "samples": samples if bound else None, "exact": exact, "seed": seed}
    if out is not None and folder:
        from unmask.cli.batch import require_only_input, run_batch
        from unmask.cli.batch_work import ScoreWork

        source = require_only_input(out, source, {"TEXT": text, "--pairs": pairs, "--jsonl": as_lines})
        work = ScoreWork(chosen, source, field, before, after, spans, per, scoring)
        run_batch(work, out, batch, as_json)
        return
    kind = "log-likelihood bound" if bound else "log-likelihood" if exact else "pseudo-log-likelihood"
    kind += f" ({form})" if form != "original" else ""
    printed: dict[str, Any] = {"out": out, "as_json": as_json, "as_lines": as_lines}
    if pairs is not None:
        given = read_pairs(pairs)
        loaded = chosen.load()
        network: Any = loaded.model
        with counting("scoring") as progress:
            found = score_pairs(
                network, loaded.tokenizer, given, template=loaded.uses_template, progress=progress, **scoring
            )
        print_pairs(kind, found, **printed)
        return
    loaded = chosen.load()
    network = loaded.model
    rows = read_score_rows(loaded, text, source, field=field, before=before, after=after, spans=spans)
    with counting("scoring") as progress:
        scores = score_rows(network, SpecialIds.of(loaded.tokenizer), rows, progress=progress, **scoring)
    print_scores(kind, scores, per=per, **printed)
