"""The last words of a demonstration: where everything is, and what to try next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def where_it_all_is(run: Path, files: Iterable[tuple[str, str]], commands: Iterable[str]) -> None:
    """List the files of a run with their meaning, and commands to go on with."""
    from unmask.cli.screen import RESULTS

    RESULTS.rule("[bold]Where it all is", align="left")
    for name, meaning in files:
        RESULTS.print(f"  {run / name}  [dim]{meaning}[/dim]", highlight=False, soft_wrap=True)
    RESULTS.print("\nTry next:", style="bold")
    for line in commands:
        RESULTS.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)  # to be copied whole
