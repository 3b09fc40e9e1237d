"""Train from a config: prepare the data, then train or resume.

With ``unmask.build.objective`` and ``unmask.build.network`` this is the only place that maps names of a config to objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from unmask.build.network import build_model, prepare_execution
from unmask.build.objective import build_collator, build_corruption, build_loss, check_attention, special_ids
from unmask.build.packages import require_training_packages
from unmask.build.parts import check_parts, part_records
from unmask.build.start import origin, with_start
from unmask.build.stores import document_weights, prepare_data, row_augmentation, with_store
from unmask.config.config_file import config_yaml
from unmask.config.tree import Config, explicit_values, load_config
from unmask.contracts import MLMModel, Objective
from unmask.data.mixing import training_store
from unmask.data.preparation import Progress
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.launch import first_then_others
from unmask.models.files import read_model, resolve_checkpoint, verify_manifest
from unmask.models.networks import describe_network
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.models.tied_weights import tied_names
from unmask.ops.schedule import Schedule, as_schedule
from unmask.ops.scheme import Corruption
from unmask.run_folder import hold_run
from unmask.runs import open_run
from unmask.training.loggers import missing_packages

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.training.lora import AdaptedLayers

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
    trust_remote_code: bool = False,
) -> Path:
    """Train a masked language model, or resume its run.

    The run folder (``config.run``) receives config, token stores, metrics and checkpoints. After every checkpoint
    :func:`unmask.load` can load it. Training a folder again resumes it; a finished run is returned at once.

    Args:
        config: a ``Config``, a nested mapping of values, or the path of a YAML file; None = the defaults.
        overrides: strings ``section.key=value`` on top of ``config``, such as ``"train.steps=2000"``.

    Other Parameters:
        console: a Rich console for progress; None = standard output.
        sampler: function of the network and its tokenizer; its text is appended to ``samples.txt`` after each validation.
        workers: number of tokenising processes; None = one per core.
        progress: callback ``(done, total, stage)`` of the preparation.
        corruption, schedule, model, loss: parts that replace those of the config. The run records each by name and SHA-256 of
            its source, and a resume with another part is refused.
        callbacks: further callbacks of Lightning.
        logger: a logger of Lightning; None = that of ``train.logger``.
        trust_remote_code: run code that comes with the weights of ``model.init``; read it first.

    Returns:
        The folder of the last checkpoint.

    Raises:
        ValueError: an invalid config, unreadable text, or a run folder that was begun with another config.
        ImportError: a package for training is not installed.
        KeyboardInterrupt: training was stopped by a signal, after writing a checkpoint.

    Examples:
        >>> import unmask
        >>> unmask.train({"run": "runs/a"}, ["train.steps=0"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: The config (train.steps=0) is not valid. train.steps = 0: input should be greater than 0...
    """
    config = _as_config(config, overrides)
    require_training_packages(*missing_packages(config.train.logger), *(["peft"] if config.train.lora_rank else []))
    from unmask.training.strategies import check_split, connect

    check_split(config)
    connect(config)
    with hold_run(Path(config.run)):
        return _train(
            config,
            console=console,
            sampler=sampler,
            workers=workers,
            progress=progress,
            corruption=corruption,
            schedule=schedule,
            model=model,
            loss=loss,
            callbacks=callbacks,
            logger=logger,
            trust_remote_code=trust_remote_code,
        )


def _train(
    config: Config,
    *,
    console: Console | None,
    sampler: Sampler | None,
    workers: int | None,
    progress: Progress | None,
    corruption: Corruption | None,
    schedule: Schedule | str | None,
    model: nn.Module | None,
    loss: Objective | None,
    callbacks: Sequence[Any],
    logger: Any,
    trust_remote_code: bool,
) -> Path:
    """Train in a run folder that this process holds; arguments as of :func:`train`."""
    from rich.console import Console

    from unmask.training.annealing import AttentionAnnealing
    from unmask.training.callbacks import CleanStop, MemoryWatch, MetricsTable, ProgressLine, SampleLog
    from unmask.training.checkpoints import VerifiedCheckpointIO
    from unmask.training.data import TokenStoreData
    from unmask.training.module import MaskedLMModule
    from unmask.training.optim import freeze_parameters, trained_parameters
    from unmask.training.plateau import PlateauGuard, measures_tokens, unigram_entropy
    from unmask.training.trainer import fit, make_trainer

    run, given = Path(config.run), config.data.model_fields_set if config.data.store is not None else None
    config, start = with_store(config), None
    if config.model.init is not None:
        config, start = with_start(config, run, trust_remote_code)
    parts = part_records({"corruption": corruption, "schedule": schedule, "model": model, "loss": loss})
    wait = timedelta(minutes=config.data.wait_minutes)
    resume = first_then_others(lambda: open_run(config, run), f"open the run folder {run}", wait)
    check_parts(run, parts, resumed=resume is not None)
    course = None if schedule is None else as_schedule(schedule)
    if resume is not None and verify_manifest(resume)["step"] >= config.train.steps:
        return resume
    of_store = given is not None and "tokenizer" not in given  # the tokenizer of the store is compared below
    chosen = None if start is None else start.choose_tokenizer(None if of_store else config.data.tokenizer)
    if config.model.init is not None and resume is not None:
        chosen = Tokenizer.load(resume / "tokenizer.json")
    prepared = first_then_others(
        lambda: prepare_data(config, run, workers, progress, given, chosen), "prepare the data", wait
    )
    tokenizer = Tokenizer.load(prepared.tokenizer)
    if start is not None:
        start.require_extension(tokenizer, f"The tokenizer of the store {prepared.folder}", "data.store")
    if resume is not None and Tokenizer.load(resume / "tokenizer.json").fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"The tokenizer of {prepared.folder} differs from the tokenizer that the run {run} was begun with, so token ids have "
            "other meanings: the source has changed and was prepared again. Restore the earlier store with data.store=…, or "
            "start in another folder with run=…."
        )
    network: Any
    if model is not None:
        network = model
    elif start is not None:
        network = start.network(config.model, tokenizer)
    elif config.model.init is not None and resume is not None:
        network = read_model(resume, trust_remote_code)
    else:
        network = build_model(config.model, tokenizer, config.seed)
    if loss is None:
        check_attention(config.objective, network)
    if model is None:
        prepare_execution(network.train(), config)
    adapted = _with_adapters(network, config, len(tokenizer), given=model is not None)
    freeze_parameters(network, config.train.freeze)
    if adapted is not None:
        trained, total = trained_parameters(network)
        (console or Console()).print(
            f"LoRA of rank {config.train.lora_rank} on {len(adapted.transposed)} layers: {trained:,} of {total:,} parameters are trained",
            soft_wrap=True,
        )
    objective = build_loss(config.objective, tokenizer, course) if loss is None else loss
    module = MaskedLMModule(network, objective, config.optim, config.train.steps, config.seed, config.train.non_finite)
    noise = build_corruption(config.objective, tokenizer, course) if corruption is None else corruption
    data = TokenStoreData(
        training_store(prepared),
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
        rows=config.data.rows,
        eos_tail=config.data.eos_tail,
        augment=row_augmentation(config.data, tokenizer),
        weights=document_weights(config.data, prepared, tokenizer),
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
        watchers.append(SampleLog(run / "samples.txt", lambda trained: sampler(trained, tokenizer)))
    if config.model.init_attention == "annealed":
        watchers.append(AttentionAnnealing(config.train.steps))
    if loss is None and config.data.kind != "supervised" and measures_tokens(config.objective):
        special = special_ids(config.objective, tokenizer)
        entropy = unigram_entropy(TokenStore.open(prepared.train), special.all)
        warmup = round(config.optim.warmup * config.train.steps)
        watchers.append(PlateauGuard(entropy, config.train.steps, warmup, console or Console()))
    watchers.append(stop)  # after the callbacks that read max_steps
    extra = {**tokenizer.files(), "run.yaml": config_yaml(config)}
    described = describe_network(network) if model is None else describe_part(network)
    writer = VerifiedCheckpointIO(described, extra, tied_names(network.state_dict()), origin(config.model), adapted)
    trainer = make_trainer(config, run, writer, watchers, logger)
    fit(trainer, module, data, resume)
    if stop.stopped is not None:
        raise KeyboardInterrupt
    return resolve_checkpoint(run)


def _with_adapters(network: Any, config: Config, ids: int, given: bool) -> AdaptedLayers | None:
    """Give the layers of a network LoRA adapters, in place; None if the config asks for none.

    Args:
        network: the network.
        config: the config of the run.
        ids: number of ids of the tokenizer.
        given: whether the caller passed the network.

    Raises:
        ValueError: adapters of random weights.
    """
    if not config.train.lora_rank:
        return None
    if config.model.init is None and not given:
        raise ValueError(
            f"train.lora_rank={config.train.lora_rank} trains adapters of weights that stay fixed, and here they would be random: give "
            "the model to start from with model.init=PATH, or leave train.lora_rank out."
        )
    from unmask.training.lora import add_adapters

    known = config.model.init_ids
    return add_adapters(
        network,
        config.train.lora_rank,
        config.train.lora_alpha,
        config.train.lora_targets,
        seed=config.seed,
        trained_rows=known if known is not None and known < ids else None,
    )


def _as_config(config: Config | Mapping[str, Any] | str | PathLike[str] | None, overrides: Sequence[str]) -> Config:
    if isinstance(config, Config):
        return load_config(None, overrides, base=explicit_values(config)) if overrides else config
    if isinstance(config, Mapping):
        return load_config(None, overrides, base=config)
    return load_config(None if config is None else fspath(config), overrides)


def describe_part(network: nn.Module) -> dict[str, Any]:
    """Return the ``config.json`` of a network that the caller passed: its class, and its attribute ``config`` if that is a mapping."""
    if isinstance(network, RotaryTransformerMLMModel):
        return describe_network(network)
    config = getattr(network, "config", None)
    return {"architecture": type(network).__name__, **(config if isinstance(config, Mapping) else {})}
