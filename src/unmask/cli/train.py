"""``unmask train``: train a model, or resume a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.model_options import TrustRemoteCode


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
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Train one run per seed, one after another, in run-SEED inside the run folder, and list them in its runs.json: 0,1,2."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of tokenising processes; by default one per core.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train a masked language model, or resume a run: `unmask train run=FOLDER` resumes from its last checkpoint."""
    from unmask.config.config_file import config_yaml
    from unmask.config.tree import load_config
    from unmask.launch import is_first_process

    given = list(arguments or [])
    file = given.pop(0) if given and "=" not in given[0] else None
    if preset is not None:
        given.append(f"model.preset={json.dumps(preset)}")
    if print_config:
        print(config_yaml(load_config(file, given)), end="")
        return

    if seeds is None:
        _train(file, given, workers, trust_remote_code)
        return
    numbers = _numbers(seeds)
    if any(each.partition("=")[0].strip() == "seed" for each in given):
        raise ValueError("--seeds sets the seed of each run, and seed=… was given as well. Leave one of the two out.")
    config = load_config(file, given)
    if config.data.store is None:
        given.append(f"data.store={config.run}/data")
    for number in numbers:
        _train(file, [*given, f"seed={number}", f"run={config.run}/run-{number}"], workers, trust_remote_code)
        if is_first_process():
            _list_run(Path(config.run), number)


def _list_run(parent: Path, seed: int) -> None:
    """Add a finished run to ``runs.json``, which lists the runs of a folder that differ in their seed only: ``[{"run", "seed"}]``."""
    from unmask.storage import read_json, write_json

    index = parent / "runs.json"
    before = read_json(index)["runs"] if index.is_file() else []
    runs = {each["seed"]: each for each in before} | {seed: {"run": f"run-{seed}", "seed": seed}}
    write_json(index, {"runs": [runs[each] for each in sorted(runs)]})


def _numbers(seeds: str) -> list[int]:
    """Parse the value of ``--seeds``."""
    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"--seeds {seeds!r} is no list of different whole numbers. Write them with commas: --seeds 0,1,2."
        )
    return numbers


def _train(file: str | None, given: list[str], workers: int | None, trust_remote_code: bool) -> None:
    """Train one run, and print where it is."""
    from unmask.cli.screen import NOTES, preparing
    from unmask.launch import is_first_process

    first = is_first_process()  # the others of a launch print nothing but errors
    if first and not NOTES.is_terminal:
        NOTES.print("loading the training packages …")  # several seconds on a cold start

    from unmask.build.run import train as run_training
    from unmask.cli.sample_text import training_sampler
    from unmask.resume import config_to_resume
    from unmask.training.plots import plot_loss

    config, changed = config_to_resume(file, given)
    if changed and first:
        differences = ", ".join(f"{key}={now} (was {before})" for key, (before, now) in changed.items())
        NOTES.print(f"Resuming {config.run} with {differences}.", highlight=False, markup=False, soft_wrap=True)
    with preparing() as progress:
        checkpoint = run_training(
            config,
            console=NOTES,
            sampler=training_sampler(config),
            workers=workers,
            progress=progress,
            trust_remote_code=trust_remote_code,
        )
    if not first:
        return
    run = Path(config.run)
    plot_loss(run / "metrics.csv", run / "loss.png", str(run))
    print(
        f"Trained: {checkpoint}\nLoss curve: {run / 'loss.png'}\nNext: {shlex.join(['unmask', 'evaluate', '--model', str(run)])}"
    )
