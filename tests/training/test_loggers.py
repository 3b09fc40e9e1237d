"""Loggers record metrics, samples and the whole config; a missing package is named."""

import csv
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.training.conftest import config_of
from unmask.build.network import build_model
from unmask.build.run import train
from unmask.runs import load_run
from unmask.training.callbacks import read_metrics


def steps_of(rows, name):
    return [int(row["step"]) for row in rows if row[name]]


def steps_written(run, name):
    return [step for step, found, _ in read_metrics(Path(run) / "metrics.csv") if found == name]


def test_a_csv_record_holds_metrics_and_the_config(tiny):
    config = config_of(tiny, "train.logger=csv", "train.steps=4", "train.freeze=[*bias]")
    checkpoint = train(config, sampler=lambda model, tokenizer: "a sample")
    folder = Path(config.run) / "csv" / "version_0"
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    for name in ("train/loss", "valid/loss"):  # the steps are those of metrics.csv
        assert steps_of(rows, name) == steps_written(config.run, name) == [2, 4][name == "valid/loss" :]
    assert "optim.lr: 0.01" in (folder / "hparams.yaml").read_text()
    assert not (Path(config.run) / "tensorboard").exists()
    loaded = load_run(checkpoint)
    first, after = build_model(config.model, loaded.tokenizer, config.seed), loaded.model.state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, after[name]) == name.endswith("bias"), name


def test_tensorboard_holds_the_samples_and_none_writes_nothing(tiny):
    config = config_of(tiny, "train.steps=4")
    train(config, sampler=lambda model, tokenizer: "the sampled text\n* of two lines")
    files = list((Path(config.run) / "tensorboard").glob("events*"))
    verbatim = b"    the sampled text\n    * of two lines"
    assert any(verbatim in file.read_bytes() for file in files)
    assert "optim.lr" in (Path(config.run) / "tensorboard" / "hparams.yaml").read_text()
    silent = config_of(tiny, "train.steps=1", "train.logger=none", f"run={tiny['run']}-silent")
    train(silent)
    assert {path.name for path in Path(silent.run).glob("[a-z]*")} == {
        "checkpoints",
        "config.yaml",
        "data",
        "metrics.csv",
    }


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_missing_package_is_named(tiny, logger, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == logger else real(name))
    with pytest.raises(ImportError, match=rf"pip install {logger}\..*train\.logger=csv"):
        train(config_of(tiny, f"train.logger={logger}"))


def test_patterns_are_read_from_the_command_line():
    for written, expected in {
        "train.freeze=embedding.*": ["embedding.*"],
        "train.freeze=[*.weight, 'a?']": ["*.weight", "a?"],
        "train.freeze=[embedding.*,blocks.0.*]": ["embedding.*", "blocks.0.*"],
        "train.freeze=[]": [],
    }.items():
        assert config_of({}, written).train.freeze == expected


def test_off_a_terminal_every_figure_has_a_unit_and_a_step_and_the_first_step_has_a_line(tiny):
    screen = io.StringIO()
    train(
        config_of(tiny, "train.steps=25", "train.evaluate_every=10", "train.log_every=20"), console=Console(file=screen)
    )
    lines = screen.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [f"step {step}/25" for step in (1, 10, 20, 20, 25)]
    trained, validated = ([line for line in lines if ("validation" in line) == v] for v in (False, True))
    for line in trained:
        _, loss, speed, left = line.split(" · ")
        assert re.fullmatch(r"loss [\d.]+ nats/token", loss) and re.fullmatch(r"[\d,]+ tokens/s", speed)
        assert re.fullmatch(r"\d+ s left", left)
    for line in validated:
        assert re.search(r"validation loss [\d.]+ nats/token · [\d.]+% of scored tokens correct$", line)


@pytest.mark.slow
def test_wandb_records_metrics_samples_and_the_config_offline(tiny, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = config_of(tiny, "train.logger=wandb", "train.steps=8")
    train(config, sampler=lambda model, tokenizer: "the sampled text")
    (folder,) = (Path(config.run) / "wandb").glob("offline-run-*")
    summary = wandb.run.summary
    assert wandb.run.config["optim.lr"] == 0.01 and summary["trainer/global_step"] == 8
    assert summary["train/loss"] > 0 and summary["valid/loss"] > 0
    wandb.finish()
    tables = [json.loads(file.read_text()) for file in folder.rglob("*.table.json")]
    assert sorted(row for table in tables for row in table["data"]) == [
        [4, "the sampled text"],
        [8, "the sampled text"],
    ]
    assert tables[0]["columns"] == ["step", "text"]


@pytest.mark.slow
def test_mlflow_records_metrics_samples_and_the_config_in_the_run_folder(tiny, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = config_of(tiny, "train.logger=mlflow", "train.steps=8")
    train(config, sampler=lambda model, tokenizer: "the sampled text")
    train(config_of(tiny, "train.logger=mlflow", "train.steps=10"))
    client = mlflow.MlflowClient(f"sqlite:///{Path(config.run).resolve() / 'mlflow' / 'mlflow.db'}")
    records = client.search_runs([client.get_experiment_by_name("unmask").experiment_id], order_by=["start_time"])
    assert [record.data.params["train.steps"] for record in records] == ["8", "10"]
    assert records[0].data.params["optim.lr"] == "0.01"
    steps = [metric.step for metric in client.get_metric_history(records[0].info.run_id, "valid/loss")]
    assert steps == steps_written(config.run, "valid/loss")[:2] == [4, 8]
    (samples,) = (Path(config.run) / "mlflow").rglob("samples.json")
    assert json.loads(samples.read_text())["data"] == [[4, "the sampled text"], [8, "the sampled text"]]
