"""Loggers of a run: Lightning's, with the whole config as hyper-parameters.

    tensorboard   run/tensorboard/
    csv           run/csv/version_N/, a new N each time the run is resumed
    wandb         project ``unmask``, files under run/; a resumed run continues the same record
    mlflow        experiment ``unmask``, at MLFLOW_TRACKING_URI, by default run/mlflow/mlflow.db; a new record each time
                  the run is resumed, because parameters of a record are fixed

Samples are tables of step and text (wandb, mlflow), or text by step (tensorboard); ``metrics.csv`` and ``samples.txt`` of the
run folder are written in any case.
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
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one bar per sample otherwise
        logger = loggers.MLFlowLogger(experiment_name=PROJECT, run_name=run.name, **_mlflow_place(run))
    logger.log_hyperparams(flat_keys(config.model_dump()))
    return logger


def _mlflow_place(run: Path) -> dict[str, Any]:
    """Return where MLflow records: the server of the environment, or a database and a folder inside the run."""
    if "MLFLOW_TRACKING_URI" in os.environ:
        return {"tracking_uri": os.environ["MLFLOW_TRACKING_URI"]}
    folder = run.resolve() / "mlflow"
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    return {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "artifact_location": (folder / "artifacts").as_uri()}


def log_sample(logger: Any, text: str, step: int) -> None:
    """Log a sample of the network, where the logger has a place for text; every step is a row of the table ``samples``."""
    kind = type(logger).__name__
    if kind == "TensorBoardLogger":
        verbatim = "\n".join(f"    {line}" for line in text.splitlines())  # TensorBoard renders Markdown
        logger.experiment.add_text("samples", verbatim, step)
    elif kind == "WandbLogger":
        logger.log_text("samples", columns=["step", "text"], data=[[step, text]], step=step)
    elif kind == "MLFlowLogger":
        logger.experiment.log_table(logger.run_id, {"step": [step], "text": [text]}, "samples.json")
