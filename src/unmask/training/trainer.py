"""The one Trainer: Lightning's, set up from the config."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from unmask.config.tree import Config
from unmask.devices import choose_device
from unmask.training.checkpoints import AveragedWeights, Checkpoints, VerifiedCheckpointIO


def choose_precision(wanted: str, device: str | torch.device = "auto") -> Any:
    """Lightning's name for a precision; ``auto`` is bf16 where the processor of this kind multiplies it natively."""
    if wanted == "auto":
        kind = choose_device(device).type
        native = (
            torch.cuda.is_bf16_supported()
            if kind == "cuda"
            else kind == "cpu" and torch.cpu._is_avx512_bf16_supported()
        )
        wanted = "bf16" if native else "fp32"
    return {"bf16": "bf16-mixed", "fp32": "32-true"}[wanted]


def make_trainer(config: Config, run: Path, checkpoint_io: VerifiedCheckpointIO, callbacks: list[Callback]) -> Trainer:
    """A Trainer that takes ``config.train.steps`` optimiser steps and leaves everything in ``run``."""
    from lightning.pytorch.loggers import TensorBoardLogger

    device = choose_device(config.train.device)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings(
        "ignore", message=".*overridden `on_before_batch_transfer`.*"
    )  # on purpose: the module knows what is scored
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    averaging: list[Callback] = [AveragedWeights(config.optim.ema)] if config.optim.ema else []
    return Trainer(
        accelerator=device.type,
        devices=config.train.devices if device.type == "cuda" or config.train.devices != "auto" else 1,
        num_nodes=config.train.nodes,
        precision=choose_precision(config.train.precision, device),
        max_steps=config.train.steps,
        max_epochs=-1,
        accumulate_grad_batches=config.train.accumulate,
        gradient_clip_val=config.optim.clip or None,
        val_check_interval=config.train.evaluate_every * config.train.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=config.train.log_every,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=TensorBoardLogger(run, name="tensorboard", version=""),
        default_root_dir=run,
        plugins=[checkpoint_io],
        # Averaging first, so that a checkpoint of a step holds that step's average; checkpoints last.
        callbacks=[
            *averaging,
            *callbacks,
            Checkpoints(run / "checkpoints", config.train.checkpoint_every, config.train.evaluate_every),
        ],
    )


def fit(trainer: Trainer, module: LightningModule, data: LightningDataModule, resume: Path | None) -> None:
    """Train. What stops a loader is raised as it is: Lightning, tidying up, would put an error of its own in its place."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if "combined_loader" in str(error) and error.__context__ is not None:
            raise error.__context__ from None
        raise
