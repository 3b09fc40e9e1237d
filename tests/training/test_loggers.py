"""Loggers record metrics, samples and the whole config; a missing package is named."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tests.training.conftest import config_of
from unmask.build.network import build_model
from unmask.build.run import train
from unmask.runs import load_run


def test_a_csv_record_holds_metrics_and_the_config(tiny):
    config = config_of(tiny, "train.logger=csv", "train.steps=4", "train.freeze=[*bias]")
    checkpoint = train(config, sampler=lambda model, tokenizer: "a sample")
    folder = Path(config.run) / "csv" / "version_0"
    assert "valid/loss" in (folder / "metrics.csv").read_text().splitlines()[0]
    assert "optim.lr: 0.01" in (folder / "hparams.yaml").read_text()
    assert not (Path(config.run) / "tensorboard").exists()
    loaded = load_run(checkpoint)
    first, after = build_model(config.model, loaded.tokenizer, config.seed), loaded.model.state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, after[name]) == name.endswith("bias"), name


def test_tensorboard_holds_the_samples_and_none_writes_nothing(tiny):
    config = config_of(tiny, "train.steps=4")
    train(config, sampler=lambda model, tokenizer: "the sampled text")
    files = list((Path(config.run) / "tensorboard").glob("events*"))
    assert any(b"the sampled text" in file.read_bytes() for file in files)
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
