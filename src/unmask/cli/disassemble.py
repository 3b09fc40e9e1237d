"""``unmask disassemble``: convert binaries to instruction traces."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import Json, Seed


def disassemble(
    paths: Annotated[
        list[str],
        typer.Argument(help="ELF files and folders, wheels (libraries of installed packages), or python (bytecode)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.")],
    test_fraction: Annotated[float, typer.Option(help="Fraction of the binaries in the test split.")] = 0.1,
    max_instructions: Annotated[
        int | None, typer.Option(help="Largest number of instructions to write, divided among the binaries.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; by default one per core. The result does not depend on it.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Skip a file that takes longer than this many seconds.")] = 60.0,
    megabytes: Annotated[float, typer.Option(help="Skip a file larger than this many megabytes.")] = 64.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Convert binaries to instruction traces: one row per distinct function, split by binary into training and test."""
    from unmask.cli.screen import counting, print_json, table
    from unmask.data.traces.corpus import disassemble as disassemble_files

    with counting("disassembling files") as progress:
        done = disassemble_files(
            paths,
            out,
            test_fraction=test_fraction,
            seed=seed,
            max_instructions=max_instructions,
            workers=workers,
            seconds=seconds,
            megabytes=megabytes,
            progress=lambda files, total, instructions: progress(files, total),
        )
    if as_json:
        print_json({"out": str(out), **vars(done)})
        return
    rows = [
        ["files", f"{done.files:,}"],
        *(
            [f"  skipped: {reason}, such as {done.skipped_examples[reason]}", f"{n:,}"]
            for reason, n in done.skipped.most_common()
        ),
        ["binaries", f"{done.binaries:,}"],
        ["  in the test split", f"{done.test_binaries:,}"],
        ["functions disassembled", f"{done.functions_found:,}"],
        *([f"  left out: {reason}", f"{count:,}"] for reason, count in done.left_out.most_common() if count),
        ["functions written", f"{done.functions:,}"],
        ["  in the test split", f"{done.test_functions:,}"],
        [f"instructions disassembled in {done.seconds:.1f} s", f"{done.instructions_found:,}"],
        ["  bytes that are no instruction", f"{done.undecoded_bytes:,}"],
        ["instructions written", f"{done.instructions:,}"],
    ]
    table(f"{out}", ["", "number"], rows)
    print(f"Train on it: {shlex.join(['unmask', 'train', f'data.source={out}', 'run=runs/NAME'])}")
