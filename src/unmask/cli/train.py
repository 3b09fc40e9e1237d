"""``unmask train``: train a model, or resume a run."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG.yaml] [KEY=VALUE]…", help="Config file, and overrides such as train.steps=2000."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the network: tiny, small, base or large.")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the config with the meaning of every key, and exit.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Number of tokenising processes; by default one per core.")
    ] = None,
) -> None:
    """Train a masked language model, or resume a run: `unmask train run=FOLDER` resumes from its last checkpoint."""
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
    from unmask.cli.sample_text import training_sampler
    from unmask.cli.screen import NOTES, preparing
    from unmask.resume import config_to_resume
    from unmask.training.plots import plot_loss

    config, changed = config_to_resume(file, given)
    if changed:
        differences = ", ".join(f"{key}={now} (was {before})" for key, (before, now) in changed.items())
        NOTES.print(f"Resuming {config.run} with {differences}.", highlight=False, markup=False, soft_wrap=True)
    with preparing() as progress:
        checkpoint = run_training(
            config, console=NOTES, sampler=training_sampler(config), workers=workers, progress=progress
        )
    run = Path(config.run)
    plot_loss(run / "metrics.csv", run / "loss.png", str(run))
    print(
        f"Trained: {checkpoint}\nLoss curve: {run / 'loss.png'}\nNext: {shlex.join(['unmask', 'evaluate', '--model', str(run)])}"
    )
