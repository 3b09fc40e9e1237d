"""``unmask embed``: vectors of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unmask.cli.batch_options import DEFAULT_BATCH, BatchOptions, batch_options
from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options
from unmask.cli.options import Json, Unit


@model_options
@batch_options
def embed(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "--out",
            "-o",
            help="File to write: .parquet, .jsonl, or .npy (other columns: NAME.rows.jsonl); without a suffix, a folder of Parquet parts.",
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option("--input", help="File of any format of `unmask prepare`; by default lines of standard input."),
    ] = None,
    chosen: ModelChoice = DEFAULT_MODEL,
    pooling: Annotated[
        Literal["mean", "cls", "token"],
        typer.Option(
            help="mean over tokens; cls = the token that the tokenizer puts before a text; token = every token."
        ),
    ] = "mean",
    layer: Annotated[
        int | None,
        typer.Option(help="Layer to read: 0 = embeddings; negative numbers count from the last. By default the last."),
    ] = None,
    normalise: Annotated[bool, typer.Option("--normalise", help="Scale every vector to length 1.")] = False,
    special_tokens: Annotated[
        bool | None,
        typer.Option(
            "--special-tokens/--no-special-tokens",
            help="Encode texts with the tokens that the tokenizer puts around them; by default for cls only.",
        ),
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts longer than the network takes; by default they are an error.")
    ] = False,
    field: Annotated[str, typer.Option("--field", help="Field or column of the text.")] = "text",
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Further field to carry to the output; id and source are carried where present."),
    ] = None,
    unit: Unit = "line",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Texts per forward pass.")] = 64,
    batch: BatchOptions = DEFAULT_BATCH,
    as_json: Json = False,
) -> None:
    """Embed texts: one vector per text, or per token. A repeated command continues an interrupted one."""
    from unmask.cli.records import read_records, standard_input_records
    from unmask.cli.screen import counting, print_json, show
    from unmask.text.embedding import EmbeddingOptions
    from unmask.text.embedding_job import embed_to_file

    options = EmbeddingOptions(pooling, layer, normalise, special_tokens, truncate)
    if not output.suffix:
        from unmask.cli.batch import require_only_input, run_batch
        from unmask.cli.batch_work import EmbedWork

        work = EmbedWork(
            chosen, require_only_input(output, source, {}), options, field, keep or [], unit or "line", batch_size
        )
        run_batch(work, output, batch, as_json)
        return
    if source is None:
        records, described = standard_input_records()
    else:
        records, described = read_records(source, field, keep or [], unit or "line")
    loaded = chosen.load()
    with counting("embedding") as progress:
        rows, found = embed_to_file(
            loaded,
            records,
            output,
            options,
            source=described,
            batch_size=batch_size,
            part_rows=batch.part_rows,
            progress=progress,
        )
    facts: dict[str, Any] = {"output": str(output), "rows": rows, "rows_found_finished": found}
    if as_json:
        print_json(facts)
        return
    resumed = f" ({found:,} of them were finished by an earlier run)" if found else ""
    show(f"{output}: {rows:,} rows{resumed}")
