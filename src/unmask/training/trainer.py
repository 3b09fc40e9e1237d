"""The one Trainer: Lightning's, configured by the ``train`` section of a config."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from unmask.config.tree import Config
from unmask.devices import choose_device
from unmask.launch import find_launch
from unmask.training.averaging import AveragedWeights
from unmask.training.checkpoints import Checkpoints, VerifiedCheckpointIO
from unmask.training.loggers import build_logger
from unmask.training.precision import choose_precision
from unmask.training.strategies import build_strategy

_LOST = re.compile(
    r"Connection (closed|reset)|Broken pipe|remote process exited|ncclRemoteError|NCCL communicator was aborted|Socket|Timed out|timeout",
    re.I,
)


def make_trainer(
    config: Config, run: Path, checkpoint_io: VerifiedCheckpointIO, callbacks: list[Callback], logger: Any = None
) -> Trainer:
    """Return a Trainer for ``config.train.steps`` optimiser steps.

    Args:
        config: the config of the run.
        run: folder of checkpoints and logs.
        checkpoint_io: writer and reader of checkpoints.
        callbacks: further callbacks, after weight averaging and before checkpoints.
        logger: a logger of Lightning; None = that of ``train.logger``.
    """
    # Averaging comes first, so that the checkpoint of a step holds the average of that step. Checkpoints come last.
    averaging: list[Callback] = [AveragedWeights(config.optim.ema)] if config.optim.ema else []
    checkpoints = Checkpoints(
        run / "checkpoints", config.train.checkpoint_every, config.train.evaluate_every, config.train.keep
    )
    return Trainer(
        **trainer_options(config, [*averaging, *callbacks, checkpoints]),
        logger=build_logger(config, run) if logger is None else logger,
        default_root_dir=run,
        plugins=[checkpoint_io, *_cluster()],
    )


def trainer_options(config: Config, callbacks: list[Callback]) -> dict[str, Any]:
    """Return the options of a Trainer that do not depend on a run folder.

    Args:
        config: the config of the run.
        callbacks: all callbacks, in order.
    """
    device, launch = choose_device(config.train.device), find_launch()
    devices: Any = config.train.devices
    if devices == "auto":
        devices = launch.per_node if launch is not None else "auto" if device.type == "cuda" else 1
    nodes = config.train.nodes if config.train.nodes != "auto" else launch.nodes if launch is not None else 1
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The module overrides on_before_batch_transfer to index the scored positions on the host.
    warnings.filterwarnings("ignore", message=".*overridden `on_before_batch_transfer`.*")
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start.*")  # a frozen encoder
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # the module sums over all processes itself
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    return {
        "accelerator": device.type,
        "devices": devices,
        "num_nodes": nodes,
        "strategy": build_strategy(config.train.strategy, device.type, _count(devices, nodes)),
        "precision": choose_precision(config.train.precision, device),
        "max_steps": config.train.steps,
        "max_epochs": -1,
        "accumulate_grad_batches": config.train.accumulate,
        "gradient_clip_val": config.optim.clip or None,
        "val_check_interval": config.train.evaluate_every * config.train.accumulate,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": config.train.log_every,
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": callbacks,
    }


def _cluster() -> list[Any]:
    """Return the plug-in of a cluster whose own requeueing is replaced by ``CleanStop`` and the script of the job."""
    launch = find_launch()
    return [SLURMEnvironment(auto_requeue=False)] if launch is not None and launch.launcher == "srun" else []


def _count(devices: int | str, nodes: int) -> int:
    """Return the number of processes."""
    return nodes * (devices if isinstance(devices, int) else torch.cuda.device_count())


def fit(trainer: Trainer, module: LightningModule, data: LightningDataModule, resume: Path | None) -> None:
    """Train, from the checkpoint ``resume`` if there is one.

    An error in the data loader is raised as it is. Lightning's own clean-up would otherwise replace it by another error.

    Raises:
        ConnectionError: another process of the run has ended.
    """
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if "combined_loader" in str(error) and error.__context__ is not None:
            raise error.__context__ from None
        if trainer.world_size > 1 and _LOST.search(str(error)):
            raise ConnectionError(
                f"Process {trainer.global_rank} of {trainer.world_size} lost another process of the run at step {trainer.global_step}: "
                "it was killed (out of memory, or by hand) or failed, and its own message says why. All processes end. The last "
                "checkpoint is intact: run the same command again to continue."
            ) from error
        raise
