"""From configs to runs: every form of a config trains the same run, and the registry of networks is complete."""

import typing
from pathlib import Path

import pytest

import unmask
from tests.training.conftest import config_of, corpus, tiny  # noqa: F401 (fixtures)
from unmask.build.network import build_model
from unmask.cli.sample_text import fill_validation_text, sample_text, training_sampler
from unmask.config.config_file import save_config
from unmask.config.model_config import ModelConfig
from unmask.models.files import read_model, write_manifest, write_model
from unmask.models.networks import ARCHITECTURES, NETWORKS, describe_network
from unmask.models.tied_weights import tied_names


def test_a_config_a_mapping_and_a_file_train_the_same_run(tiny, tmp_path):  # noqa: F811
    config = config_of(tiny, f"run={tmp_path / 'run'}", "train.steps=2")
    checkpoint = unmask.train(config)
    assert checkpoint.parent.parent == tmp_path / "run" and unmask.load(checkpoint).step == 2
    save_config(config, tmp_path / "config.yaml")
    # A run that is complete is returned at once, so each of these calls has read an equal config.
    assert unmask.train(tmp_path / "config.yaml") == checkpoint
    assert unmask.train(str(tmp_path / "config.yaml"), [f"run={tmp_path / 'run'}"]) == checkpoint
    assert unmask.train(config.model_dump()) == checkpoint
    assert unmask.train(config, ["train.steps=1"]) == checkpoint
    with pytest.raises(ValueError, match=r"another config.*seed"):
        unmask.train(config, ["seed=5"])


def test_missing_packages_of_training_are_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install lightning tensorboard"):
        unmask.train()


def test_the_registry_of_networks_is_what_the_config_allows():
    kinds = typing.get_args(ModelConfig.model_fields["kind"].annotation)
    assert set(kinds) == {*NETWORKS, "hugging_face"}
    description = ModelConfig.model_fields["kind"].description
    assert all(kind in description for kind in NETWORKS)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_is_built_saved_and_loaded(kind, tmp_path):
    config = ModelConfig.model_validate({"preset": None, "kind": kind, "d_model": 16, "num_layers": 1, "nhead": 2})
    tokenizer = _trace_tokenizer()
    model = build_model(config, tokenizer, seed=0)
    assert type(model).__name__ in ARCHITECTURES
    write_model(tmp_path, describe_network(model), model.state_dict())
    write_manifest(tmp_path, step=0)
    loaded = read_model(tmp_path)
    assert type(loaded) is NETWORKS[kind].network
    assert all((value == model.state_dict()[name]).all() for name, value in loaded.state_dict().items())
    assert tied_names(loaded.state_dict()) == tied_names(model.state_dict()) != {}


def test_a_bert_run_logs_filled_validation_text_and_a_diffusion_run_samples(tiny, tmp_path):  # noqa: F811
    diffusion = config_of(tiny)
    assert training_sampler(diffusion) is sample_text
    bert = config_of(
        tiny,
        f"run={tmp_path / 'bert'}",
        "objective.name=bert",
        "objective.probability=0.3",
        "train.steps=2",
        "train.evaluate_every=1",
    )
    checkpoint = unmask.train(bert, sampler=training_sampler(bert))
    samples = (Path(bert.run) / "samples.txt").read_text()
    loaded = unmask.load(checkpoint, device="cpu")
    written = fill_validation_text(loaded.model, loaded.tokenizer, valid=Path(bert.run) / "data" / "valid", rate=0.3)
    assert written in samples and "[MASK]" in written
    masked, filled, figures, *_ = written.splitlines()
    assert masked.startswith("masked: ") and filled.startswith("filled: ") and "[MASK]" not in filled
    correct, total = (int(word) for word in figures.split() if word.isdigit())
    assert 0 <= correct <= total == masked.count("[MASK]")


def _trace_tokenizer():
    from unmask.data.traces.trace_tokenizer import trace_tokenizer

    return trace_tokenizer(["mov eax 1 [NEXT] ret"], 4096)
