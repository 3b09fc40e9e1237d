"""The end of a demonstration: its files, and commands to try next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path


def list_results(run: Path, files: Iterable[tuple[str, str]], commands: Iterable[Sequence[str]]) -> None:
    """Print the files of a run with their contents, and further commands, quoted for a shell."""
    from unmask.cli.screen import heading, show

    heading("Results")
    for name, content in files:
        show(f"  {run / name}  {content}")
    show("\nTry next:", style="bold")
    for words in commands:
        show(f"  {shlex.join(words)}")
