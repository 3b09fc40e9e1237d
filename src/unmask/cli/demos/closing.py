"""The last words of a demonstration: where everything is, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path


def where_it_all_is(run: Path, files: Iterable[tuple[str, str]], commands: Iterable[Sequence[str]]) -> None:
    """List the files of a run with their meaning, and commands to go on with, quoted for a shell."""
    from unmask.cli.screen import heading, show

    heading("Where it all is")
    for name, meaning in files:
        show(f"  {run / name}  {meaning}")
    show("\nTry next:", style="bold")
    for words in commands:
        show(f"  {shlex.join(words)}")
