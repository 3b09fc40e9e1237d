"""Loggers of a run: Lightning's, with the whole config as hyper-parameters.

    tensorboard   run/tensorboard/
    csv           run/csv/version_N/, a new N each time the run is resumed
    wandb         project ``unmask``, files under run/; a resumed run continues the same record
    mlflow        experiment ``unmask``, at MLFLOW_TRACKING_URI, by default run/mlflow

``metrics.csv`` is written in any case.
"""

from __future__ import annotations

import importlib.util
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from unmask.config.override import flat_keys
from unmask.config.tree import Config

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "unmask"


def missing_packages(logger: str) -> list[str]:
    """Return the packages of a logger that are not installed."""
    package = PACKAGES.get(logger)
    return [] if package is None or importlib.util.find_spec(package) is not None else [package]


def build_logger(config: Config, run: Path) -> Any:
    """Return the logger of ``train.logger``, or False for none.

    Args:
        config: the config of the run, logged as hyper-parameters with dotted names.
        run: the run folder.
    """
    if config.train.logger == "none":
        return False
    from lightning.pytorch import loggers

    logger: Any
    if config.train.logger == "tensorboard":
        logger = loggers.TensorBoardLogger(run, name="tensorboard", version="", default_hp_metric=False)
    elif config.train.logger == "csv":
        logger = loggers.CSVLogger(run, name="csv", flush_logs_every_n_steps=config.train.log_every)
    elif config.train.logger == "wandb":
        identity = sha256(str(run.resolve()).encode()).hexdigest()[:16]
        logger = loggers.WandbLogger(project=PROJECT, name=run.name, save_dir=run, id=identity, resume="allow")
    else:
        place = os.environ.get("MLFLOW_TRACKING_URI", f"file:{run.resolve() / 'mlflow'}")
        logger = loggers.MLFlowLogger(experiment_name=PROJECT, run_name=run.name, tracking_uri=place)
    logger.log_hyperparams(flat_keys(config.model_dump()))
    return logger


def log_sample(logger: Any, text: str, step: int) -> None:
    """Log a sample of the network as text, where the logger has a place for text."""
    kind = type(logger).__name__
    if kind == "TensorBoardLogger":
        logger.experiment.add_text("samples", text, step)
    elif kind == "WandbLogger":
        logger.log_text("samples", columns=["step", "text"], data=[[step, text]], step=step)
    elif kind == "MLFlowLogger":
        logger.experiment.log_text(logger.run_id, text, f"samples/step-{step:08d}.txt")
