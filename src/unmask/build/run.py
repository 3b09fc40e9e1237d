"""Where names become objects: with ``unmask.build.objective``, the only place that turns config words into parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.build.network import build_model, build_runner
from unmask.build.objective import build_collator, build_loss
from unmask.build.stores import prepare_data, with_store
from unmask.config.tree import Config, config_yaml
from unmask.data.preparation import Progress
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.models.files import resolve_checkpoint, verify_manifest
from unmask.runs import open_run


def train(
    config: Config,
    *,
    console: Any = None,
    sampler: Any = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Prepare the data, then train or resume; the run folder is complete for ``load`` after every checkpoint.

    Args:
        config: the whole run.
        console: a Rich console for progress; None writes to standard output.
        sampler: network and tokenizer -> text, logged after each validation.
        workers: processes that tokenise; None = one per core.
        progress: of preparation.

    Returns:
        The last checkpoint's folder.

    Raises:
        ValueError: bad input, or a run folder that was made with another config.
        KeyboardInterrupt: stopped by a signal; the checkpoint is written.
    """
    from rich.console import Console

    from unmask.training.callbacks import CleanStop, MemoryWatch, MetricsTable, ProgressLine, SampleLog
    from unmask.training.checkpoints import VerifiedCheckpointIO
    from unmask.training.data import TokenStoreData
    from unmask.training.module import MaskedLMModule
    from unmask.training.trainer import fit, make_trainer

    run, given = Path(config.run), config.data.model_fields_set if config.data.store is not None else None
    config = with_store(config)
    resume = open_run(config, run)
    if resume is not None and verify_manifest(resume)["step"] >= config.train.steps:
        return resume
    prepared = prepare_data(config, run, workers, progress, given)
    tokenizer = Tokenizer.load(prepared.tokenizer)
    if resume is not None and Tokenizer.load(resume / "tokenizer.json").fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"The tokenizer of {prepared.folder} is not the one that the run {run} was begun with, so its ids mean other words: the "
            "source was changed and prepared anew. Give the earlier store back with data.store=…, or start in another folder with run=…."
        )
    model = build_model(config.model, tokenizer, config.seed)
    parameters = sum(p.numel() for p in model.parameters())
    model.run_block = build_runner(config.train, parameters, config.train.batch_size * config.data.block_size)
    module = MaskedLMModule(
        model, build_loss(config.objective, tokenizer), config.optim, config.train.steps, config.seed
    )
    data = TokenStoreData(
        TokenStore.open(prepared.train),
        TokenStore.open(prepared.valid),
        block_size=config.data.block_size,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        collate=build_collator(config, tokenizer, config.seed),
        collate_valid=build_collator(config, tokenizer, config.seed + 1, progress=1.0),
        evaluate_rows=config.train.evaluate_rows,
        steps=config.train.steps,
        seed=config.seed,
        workers=config.data.workers,
    )
    stop = CleanStop()
    callbacks = [
        MetricsTable(run / "metrics.csv", config.train.log_every),
        ProgressLine(
            console or Console(),
            max(config.train.log_every, config.train.steps // 20),
            config.train.batch_size * config.data.block_size,
        ),
        MemoryWatch(),
    ]
    if sampler is not None:
        callbacks.append(SampleLog(run / "samples.txt", lambda network: sampler(network, tokenizer)))
    callbacks.append(stop)  # after those that read how many steps there are
    extra = {**tokenizer.files(), "run.yaml": config_yaml(config)}
    trainer = make_trainer(
        config, run, VerifiedCheckpointIO({"architecture": type(model).__name__, **model.config}, extra), callbacks
    )
    fit(trainer, module, data, resume)
    if stop.stopped is not None:
        raise KeyboardInterrupt
    return resolve_checkpoint(run)
