"""``unmask train``: train or resume."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG.yaml] [KEY=VALUE]…", help="A config file and overrides such as train.steps=2000."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the network: tiny, small, base or large.")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole config, explained, and stop.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that tokenise; by default one per core.")] = None,
) -> None:
    """Train a masked language model, or go on where the run folder's last checkpoint is: `unmask train run=FOLDER` is all that it takes."""
    from unmask.config.config_file import config_yaml
    from unmask.config.tree import load_config

    given = list(arguments or [])
    file = given.pop(0) if given and "=" not in given[0] else None
    if preset is not None:
        given.append(f"model.preset={json.dumps(preset)}")
    if print_config:
        print(config_yaml(load_config(file, given)), end="")
        return

    from pathlib import Path

    from unmask.build.run import train as run_training
    from unmask.cli.sample_text import sample_text
    from unmask.cli.screen import NOTES, preparing
    from unmask.resume import config_to_resume
    from unmask.training.plots import plot_loss

    config, changed = config_to_resume(file, given)
    if changed:
        differences = ", ".join(f"{key}={now} (was {before})" for key, (before, now) in changed.items())
        NOTES.print(f"The run {config.run} goes on with {differences}.", highlight=False, markup=False, soft_wrap=True)
    with preparing() as progress:
        checkpoint = run_training(config, console=NOTES, sampler=sample_text, workers=workers, progress=progress)
    run = Path(config.run)
    plot_loss(run / "metrics.csv", run / "loss.png", str(run))
    print(
        f"Trained: {checkpoint}\nLoss curve: {run / 'loss.png'}\nNext: {shlex.join(['unmask', 'evaluate', '--model', str(run)])}"
    )
