"""Train from a config: prepare the data, then train or resume.

With ``unmask.build.objective`` and ``unmask.build.network`` this is the only place that maps names of a config to objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from unmask.build.network import build_model, build_runner
from unmask.build.objective import build_collator, build_corruption, build_loss
from unmask.build.packages import require_training_packages
from unmask.build.parts import check_parts, part_records
from unmask.build.stores import prepare_data, with_store
from unmask.config.config_file import config_yaml
from unmask.config.tree import Config, explicit_values, load_config
from unmask.contracts import MLMModel, Objective
from unmask.data.preparation import Progress
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.models.files import resolve_checkpoint, verify_manifest
from unmask.ops.schedule import Schedule, as_schedule
from unmask.ops.scheme import Corruption
from unmask.runs import open_run

if TYPE_CHECKING:
    from rich.console import Console

Sampler = Callable[[MLMModel, Tokenizer], str]
"""Network and tokenizer -> text for ``samples.txt``."""


def train(
    config: Config | Mapping[str, Any] | str | PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    console: Console | None = None,
    sampler: Sampler | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    corruption: Corruption | None = None,
    schedule: Schedule | str | None = None,
    model: nn.Module | None = None,
    loss: Objective | None = None,
    callbacks: Sequence[Any] = (),
    logger: Any = None,
) -> Path:
    """Train a masked language model, or resume its run.

    The run folder (``config.run``) receives config, token stores, metrics and checkpoints. After every checkpoint
    :func:`unmask.load` can load it. Training a folder again resumes it; a finished run is returned at once.

    Args:
        config: a ``Config``, a nested mapping of values, or the path of a YAML file; None = the defaults.
        overrides: strings ``section.key=value`` on top of ``config``, such as ``"train.steps=2000"``.

    Other options:
        console: a Rich console for progress; None = standard output.
        sampler: function of the network and its tokenizer; its text is appended to ``samples.txt`` after each validation.
        workers: number of tokenising processes; None = one per core.
        progress: callback ``(done, total, stage)`` of the preparation.
        corruption, schedule, model, loss: parts that replace those of the config. The run records each by name and SHA-256 of
            its source, and a resume with another part is refused.
        callbacks: further callbacks of Lightning.
        logger: a logger of Lightning instead of TensorBoard's.

    Returns:
        The folder of the last checkpoint.

    Raises:
        ValueError: an invalid config, unreadable text, or a run folder that was begun with another config.
        ImportError: a package for training is not installed.
        KeyboardInterrupt: training was stopped by a signal, after writing a checkpoint.

    Example:
        >>> import unmask
        >>> unmask.train({"run": "runs/a"}, ["train.steps=0"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: The config (train.steps=0) is not valid. train.steps = 0: input should be greater than 0...
    """
    config = _as_config(config, overrides)
    require_training_packages("tensorboard")
    from rich.console import Console

    from unmask.training.callbacks import CleanStop, MemoryWatch, MetricsTable, ProgressLine, SampleLog
    from unmask.training.checkpoints import VerifiedCheckpointIO
    from unmask.training.data import TokenStoreData
    from unmask.training.module import MaskedLMModule
    from unmask.training.trainer import fit, make_trainer

    run, given = Path(config.run), config.data.model_fields_set if config.data.store is not None else None
    config = with_store(config)
    parts = part_records({"corruption": corruption, "schedule": schedule, "model": model, "loss": loss})
    resume = open_run(config, run)
    check_parts(run, parts, resumed=resume is not None)
    course = None if schedule is None else as_schedule(schedule)
    if resume is not None and verify_manifest(resume)["step"] >= config.train.steps:
        return resume
    prepared = prepare_data(config, run, workers, progress, given)
    tokenizer = Tokenizer.load(prepared.tokenizer)
    if resume is not None and Tokenizer.load(resume / "tokenizer.json").fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"The tokenizer of {prepared.folder} differs from the tokenizer that the run {run} was begun with, so token ids have "
            "other meanings: the source has changed and was prepared again. Restore the earlier store with data.store=…, or "
            "start in another folder with run=…."
        )
    network: Any = build_model(config.model, tokenizer, config.seed) if model is None else model
    parameters = sum(p.numel() for p in network.parameters())
    if hasattr(network, "run_block"):
        network.run_block = build_runner(config.train, parameters, config.train.batch_size * config.data.block_size)
    objective = build_loss(config.objective, tokenizer, course) if loss is None else loss
    module = MaskedLMModule(network, objective, config.optim, config.train.steps, config.seed)
    noise = build_corruption(config.objective, tokenizer, course) if corruption is None else corruption
    data = TokenStoreData(
        TokenStore.open(prepared.train),
        TokenStore.open(prepared.valid),
        block_size=config.data.block_size,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        collate=build_collator(config, tokenizer, config.seed, None, noise),
        collate_valid=build_collator(config, tokenizer, config.seed + 1, 1.0, noise),
        evaluate_rows=config.train.evaluate_rows,
        steps=config.train.steps,
        seed=config.seed,
        workers=config.data.workers,
    )
    stop = CleanStop()
    watchers: list[Any] = [
        *callbacks,
        MetricsTable(run / "metrics.csv", config.train.log_every),
        ProgressLine(
            console or Console(),
            max(config.train.log_every, config.train.steps // 20),
            config.train.batch_size * config.data.block_size,
        ),
        MemoryWatch(),
    ]
    if sampler is not None:
        watchers.append(SampleLog(run / "samples.txt", lambda network: sampler(network, tokenizer)))
    watchers.append(stop)  # after the callbacks that read max_steps
    extra = {**tokenizer.files(), "run.yaml": config_yaml(config)}
    described = getattr(network, "config", None)
    architecture = {"architecture": type(network).__name__, **(described if isinstance(described, Mapping) else {})}
    trainer = make_trainer(config, run, VerifiedCheckpointIO(architecture, extra), watchers, logger)
    fit(trainer, module, data, resume)
    if stop.stopped is not None:
        raise KeyboardInterrupt
    return resolve_checkpoint(run)


def _as_config(config: Config | Mapping[str, Any] | str | PathLike[str] | None, overrides: Sequence[str]) -> Config:
    if isinstance(config, Config):
        return load_config(None, overrides, base=explicit_values(config)) if overrides else config
    if isinstance(config, Mapping):
        return load_config(None, overrides, base=config)
    return load_config(None if config is None else fspath(config), overrides)
