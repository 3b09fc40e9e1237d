"""``unmask prepare``: convert text to a tokenizer and token stores."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unmask.cli.options import Field, Json, Seed, Split, Unit


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            help="python-docs, python-code, a file (text, .jsonl, .csv, .tsv, .parquet, .arrow, .fasta, .a3m, .npy), a folder, traces:wheels, traces:python, or a Hugging Face dataset."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the stores.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Kind to train (bpe, unigram, wordpiece, characters, bytes, ids, words), or tokenizer.json, folder or hub name; by default bpe."
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Vocabulary size of the trained tokenizer.")] = 8192,
    special_ids: Annotated[
        str | None,
        typer.Option(
            help="Ids of the special tokens of ready ids: 'mask: 0, pad: 1, eos: 2'; by default they follow the other ids."
        ),
    ] = None,
    valid_source: Annotated[str | None, typer.Option(help="Separate validation text.")] = None,
    valid_fraction: Annotated[
        float, typer.Option(help="Fraction of the bytes in the validation split, without --valid-source.")
    ] = 0.05,
    kind: Annotated[
        Literal["text", "supervised"],
        typer.Option(
            help="text, or supervised: rows with prompt and answer, messages, or before, middle and after (data.kind)."
        ),
    ] = "text",
    field: Field = "text",
    unit: Unit = None,
    split: Split = "train",
    inserts: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="Insertions of aligned sequences (A3M): lower-case letters and dots."),
    ] = "keep",
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; by default one per core. The result does not depend on it.")
    ] = None,
    seed: Seed = 0,
    drop_duplicates: Annotated[
        Literal["exact", "near"] | None,
        typer.Option(
            help="Leave out documents that repeat earlier ones: exact = equal texts, near = nearly equal texts (MinHash); the first one is kept."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Do one share of the work, such as 3/16 in a task of an array job; the last task merges, and so does this command without --shard."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="processes of this machine, or ray: tasks of a Ray cluster, with all paths on shared storage."
        ),
    ] = "processes",
    as_json: Json = False,
) -> None:
    """Tokenise text into memory-mapped stores. The same command resumes an interrupted preparation."""
    from dataclasses import asdict

    from unmask.cli.screen import preparing, print_json, show, table
    from unmask.data.corpus.sources import Source
    from unmask.data.preparation import prepare as prepare_corpus
    from unmask.data.preparation import prepare_shard

    def parse(text: str) -> Source:
        return Source.parse(text, field=field, unit=unit, split=split, inserts=inserts, supervised=kind == "supervised")

    share = None if shard is None else _shard(shard)
    with preparing() as progress:
        options: dict[str, Any] = {
            "tokenizer": tokenizer,
            "vocab_size": vocab_size,
            "valid_fraction": valid_fraction,
            "valid_source": None if valid_source is None else parse(valid_source),
            "workers": workers,
            "seed": seed,
            "progress": progress,
            "special_ids": None if special_ids is None else _ids_by_role(special_ids),
            "drop_duplicates": drop_duplicates,
            "engine": engine,
        }
        made = None if share is None else prepare_shard(parse(source), out, share, **options)
        done = prepare_corpus(parse(source), out, **options) if made is None else made.prepared
    if done is None:
        assert made is not None
        facts = {"out": str(out), "shard": shard, "stores_written": made.parts, "stores_missing": made.missing}
        if as_json:
            print_json(facts)
        else:
            show(
                f"Shard {shard} of {out}: its {made.parts} stores of parts are written, {made.missing} of other shards are missing. The last "
                "shard merges them."
            )
        return
    if as_json:
        print_json({k: str(v) if isinstance(v, Path) else v for k, v in asdict(done).items()})
        return
    rows = [
        ["training", f"{done.train_documents:,}", f"{done.train_tokens:,}", f"{done.train_bytes:,}"],
        ["validation", f"{done.valid_documents:,}", f"{done.valid_tokens:,}", f"{done.valid_bytes:,}"],
    ]
    if drop_duplicates is not None:
        rows.append([f"{drop_duplicates} duplicates", f"{done.dropped_documents:,}", "", f"{done.dropped_bytes:,}"])
    table(f"{out} · vocabulary {done.vocab_size:,}", ["", "documents", "tokens", "bytes"], rows)
    used: dict[str, tuple[Any, Any]] = {
        "data.kind": (kind, "text"),
        "data.field": (field, "text"),
        "data.unit": (unit, None),
        "data.split": (split, "train"),
        "data.inserts": (inserts, "keep"),
        "data.tokenizer": (tokenizer, None),
        "data.valid_source": (valid_source, None),
        "data.vocab_size": (vocab_size, 8192),
        "data.valid_fraction": (valid_fraction, 0.05),
        "data.seed": (seed, 0),
        "data.drop_duplicates": (drop_duplicates, None),
        "data.special_ids": (special_ids and f"{{{special_ids.strip('{} ')}}}", None),
    }
    other = [f"{key}={value}" for key, (value, default) in used.items() if value != default]
    print(
        f"Train on it: {shlex.join(['unmask', 'train', f'data.source={source}', f'data.store={out}', *other, 'run=runs/NAME'])}"
    )


def _shard(text: str) -> tuple[int, int]:
    """Parse the value of ``--shard``.

    Raises:
        ValueError: it is no number and count.
    """
    number, _, count = text.partition("/")
    if not (number.strip().isdigit() and count.strip().isdigit()):
        raise ValueError(
            f"--shard {text!r} is no share of the work. Write its number, from 1, and their count: --shard 3/16."
        )
    return int(number), int(count)


def _ids_by_role(text: str) -> dict[str, int]:
    """Parse the value of ``--special-ids``.

    Raises:
        ValueError: it is no list of roles and ids.
    """
    import yaml

    try:
        ids = yaml.safe_load(f"{{{text.strip('{} ')}}}")
    except yaml.YAMLError:
        ids = None
    if not isinstance(ids, dict) or not all(isinstance(id, int) for id in ids.values()):
        raise ValueError(
            f"--special-ids {text!r} is no list of roles and ids. Write roles with a colon and a space: --special-ids 'mask: 0, pad: 1, eos: 2'."
        )
    return ids
