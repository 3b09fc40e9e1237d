"""Whole runs: resume = uninterrupted, accumulation = one pass, two processes = one, checkpoints whole or absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.collate.packed import PackedMLMCollator
from unmask.config.config_file import save_config
from unmask.config.optim_config import OptimConfig
from unmask.contracts import SpecialIds
from unmask.models.files import resolve_checkpoint, verify_manifest
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.ops.corruption import bert_corruption
from unmask.runs import load_run
from unmask.training.callbacks import read_metrics
from unmask.training.loss import MLMLoss
from unmask.training.optim import build_optimizer, learning_rate_factor


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def assert_same_run(one: Path, two: Path) -> None:
    a, b = (weights(resolve_checkpoint(run)) for run in (one, two))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert read_metrics(one / "metrics.csv") == read_metrics(two / "metrics.csv")


CHILD = """
import os, sys
from unmask.build.run import train
from unmask.config.tree import load_config
from unmask.training import callbacks

at = int(sys.argv[2])
class Kill(callbacks.CleanStop):
    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_step == at:
            os._exit(9)
callbacks.CleanStop = Kill
train(load_config(sys.argv[1]))
"""


def in_process(script: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [(), ("optim.name=muon", "optim.ema=0.9", "model.dropout=0.1", "train.accumulate=2")],
    ids=["plain", "muon, average, dropout, accumulation"],
)
def test_killed_at_any_step_and_resumed_equals_uninterrupted(tiny, tmp_path, extra):
    whole = config_of(tiny, f"run={tmp_path / 'whole'}", *extra)
    train(whole)
    for at in (3, 6, 11):
        killed = config_of(tiny, f"run={tmp_path / f'killed{at}'}", *extra)
        save_config(killed, tmp_path / "config.yaml")
        assert in_process(CHILD, str(tmp_path / "config.yaml"), str(at)).returncode == 9
        train(killed)
        assert_same_run(Path(whole.run), Path(killed.run))


@pytest.mark.slow
def test_accumulation_and_two_processes_equal_one_pass(tiny, tmp_path):
    """Same rows, same noise, same normaliser: the weights agree to rounding, though rows differ in what they score."""
    runs = {}
    for name, extra in {"one": (), "accumulated": ("train.accumulate=4",)}.items():
        config = config_of(tiny, f"run={tmp_path / name}", "train.steps=4", "objective.name=bert", *extra)
        train(config)
        runs[name] = weights(resolve_checkpoint(config.run))
    two = config_of(tiny, f"run={tmp_path / 'two'}", "train.steps=4", "objective.name=bert", "train.devices=2")
    save_config(two, tmp_path / "two.yaml")
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom unmask.build.run import train\nfrom unmask.config.tree import load_config\ntrain(load_config(sys.argv[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "two.yaml")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    runs["two processes"] = weights(resolve_checkpoint(two.run))
    for name, found in runs.items():
        for key, expected in runs["one"].items():
            torch.testing.assert_close(found[key], expected, rtol=1e-4, atol=2e-6, msg=f"{name}: {key}")


def test_run_folder_and_reload(tiny):
    """A run writes its files, its reloaded network equals the trained one, and running it again does nothing."""
    config = config_of(tiny)
    checkpoint = train(config)
    run = Path(config.run)
    assert (run / "config.yaml").is_file() and (run / "metrics.csv").is_file()
    names = {name for _, name, _ in read_metrics(run / "metrics.csv")}
    assert names == {"train/loss", "train/loss_error", "train/lr", "valid/loss", "valid/accuracy"}
    loaded = load_run(run)
    assert (loaded.step, loaded.config) == (12, config)
    ids = torch.arange(5, 15)[None]
    again = load_run(checkpoint)
    assert torch.equal(loaded.model(ids), again.model(ids))
    before = (checkpoint / "checkpoint.json").stat().st_mtime_ns
    assert train(config) == checkpoint
    assert (checkpoint / "checkpoint.json").stat().st_mtime_ns == before


def test_only_last_and_best_are_kept_and_more_steps_may_follow(tiny):
    config = config_of(tiny)
    train(config)
    folder = Path(config.run) / "checkpoints"
    index = json.loads((folder / "index.json").read_text())
    assert {p.name for p in folder.glob("step-*")} == {index["last"], index["best"]}
    assert index["last"] == "step-00000012"
    assert train(config_of(tiny, "train.steps=14")).name == "step-00000014"


def test_other_config_in_the_same_folder_is_refused_or_moved_aside(tiny):
    config = config_of(tiny, "train.steps=2")
    train(config)
    with pytest.raises(ValueError, match=r"optim\.lr .*train\.resume=false"):
        train(config_of(tiny, "train.steps=2", "optim.lr=0.5"))
    train(config_of(tiny, "train.steps=2", "optim.lr=0.5", "train.resume=false"))
    run = Path(config.run)
    assert load_run(run).config.optim.lr == 0.5
    assert load_run(run.with_name("run.1")).config.optim.lr == 0.01


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "no manifest", "foreign", "newer"])
def test_damaged_or_foreign_checkpoints_are_never_loaded(tiny, damage):
    checkpoint = train(config_of(tiny, "train.steps=2"))
    file = checkpoint / "model.safetensors"
    content = bytearray(file.read_bytes())
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[-5] ^= 1
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    elif damage == "no manifest":
        (checkpoint / "checkpoint.json").unlink()
    elif damage == "foreign":
        (checkpoint / "checkpoint.json").write_text('{"format": "another"}')
    else:
        (checkpoint / "checkpoint.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(ValueError) as error:
        load_run(checkpoint)
    assert str(checkpoint) in str(error.value) and "\n" not in str(error.value)


def test_a_full_disk_while_saving_leaves_the_previous_checkpoint_in_force(tiny, monkeypatch):
    from unmask.training import checkpoints

    real = checkpoints.write_model

    def full_at_eight(folder, config, tensors):
        if "00000008" in folder.name:
            (folder / "model.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(folder, config, tensors)

    monkeypatch.setattr(checkpoints, "write_model", full_at_eight)
    config = config_of(tiny)
    with pytest.raises(OSError, match="disk is full"):
        train(config)
    folder = Path(config.run) / "checkpoints"
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    assert verify_manifest(resolve_checkpoint(config.run))["step"] == 4
    monkeypatch.undo()
    assert train(config).name == "step-00000012"


def test_missing_and_unfinished_models_are_explained(tmp_path):
    with pytest.raises(ValueError, match="no model at"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="no finished checkpoint"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("option", ["objective.name=bert", "objective.selection=bernoulli", "optim.ema=0.5", "optim.clip=0.01", "optim.warmup=0.9",
                                    "optim.decay=linear", "optim.beta2=0.5", "optim.beta1=0.1", "optim.weight_decay=10.0", "optim.final_lr=1.0",
                                    "model.local_init_layers=0", "model.tie_embeddings=false", "model.dropout=0.5", "model.activation=relu",
                                    "model.rotary_emb_dim=2", "optim.lr=0.02", "optim.name=muon", "data.block_size=16", "train.batch_size=4",
                                    "objective.name=bert objective.probability=0.5", "objective.name=bert objective.mask_replace_prob=0.5",
                                    "objective.name=bert objective.random_replace_prob=0.0", "objective.name=bert objective.mask_rate_start=0.9", "optim.name=muon optim.muon_lr=0.1",
                                    "objective.selection=bernoulli objective.schedule=cosine", "data.valid_fraction=0.5",
                                    "model.dim_feedforward=8", "objective.eps=0.5", "seed=1", "train.precision=bf16"])  # fmt: skip
def test_every_training_option_changes_the_result(tiny, corpus, option, tmp_path_factory):
    """The last option of each line changes the trained weights."""
    *given, turned = option.split()
    given += ["objective.selection=bernoulli"] if "eps" in turned else []
    found = []
    for extra in (given, [*given, turned]):
        # Stores are shared where the option does not change them, so that a run of four steps is quick.
        store = (
            corpus.parent
            / f"store-{turned if extra[-1:] == [turned] and turned.startswith(('seed', 'data.valid')) else 'common'}"
        )
        run = tmp_path_factory.mktemp("runs") / "run"
        found.append(weights(train(config_of(tiny, f"run={run}", f"data.store={store}", "train.steps=4", *extra))))
    a, b = found
    assert a.keys() != b.keys() or any(a[k].shape != b[k].shape or not torch.equal(a[k], b[k]) for k in a)


def test_a_nan_loss_stops_the_run(tiny, monkeypatch):
    from unmask.training.loss import MLMLoss

    real = MLMLoss.__call__

    def broken(self, batch, model=None):
        parts = real(self, batch, model)
        return {**parts, "numerator": parts["numerator"] * float("nan")}

    monkeypatch.setattr(MLMLoss, "__call__", broken)
    with pytest.raises(ValueError, match=r"NaN or infinite at step 1.*optim\.lr"):
        train(config_of(tiny))


@pytest.mark.slow
def test_overfitting_64_rows_predicts_every_masked_token():
    """Training works: 64 rows of random tokens are memorised, with more than 99% of the masked tokens correct."""
    special = SpecialIds(mask=1, vocab_size=64, pad=0, bos=2, eos=3)
    rows = torch.randint(4, 64, (64, 16), generator=torch.Generator().manual_seed(0)).numpy()
    collator = PackedMLMCollator(
        special, 16, bert_corruption(1, 64, special.all, random_replace_prob=0.0, mask_replace_prob=1.0)
    )
    model = RotaryTransformerMLMModel(64, 128, 4, 4, dropout=0.0, max_length=16, local_init_layers=1)
    loss = MLMLoss(model=model, tokenizer=special)
    config = OptimConfig(name="muon", lr=1e-2, weight_decay=0.0)
    optimizer = build_optimizer(model, config)
    course = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(min(step, 399), config, 400)
    )

    def batch(epoch: int) -> dict:
        """Four differently masked copies of every row."""
        return collator(
            {"input_ids": np.tile(rows, (4, 1)), "example_id": np.arange(256), "epoch": np.full(256, epoch)}
        )

    for epoch in range(400):
        optimizer.zero_grad()
        loss(batch(epoch))["loss"].backward()
        optimizer.step()
        course.step()
    model.eval()
    right = torch.cat([loss.score(batch(10_000 + e)).correct for e in range(8)])
    assert right.float().mean() > 0.99


def test_samples_are_logged_after_each_validation(tiny):
    """A sampler's text is logged after each validation, under its step."""
    config = config_of(tiny, "train.steps=8")
    train(config, sampler=lambda network, tokenizer: f"{type(network).__name__} {len(tokenizer)}")
    log = (Path(config.run) / "samples.txt").read_text()
    assert log.count("── step") == 2 and "RotaryTransformerMLMModel 300" in log


def test_the_standard_error_of_every_steps_loss_is_reported(tiny, monkeypatch):
    """The standard error is that of the whole step, combined from its passes."""
    from unmask.training.loss import MLMLoss
    from unmask.training.reduction import global_loss

    parts, real = [], MLMLoss.__call__

    def noted(self, batch, model=None):
        parts.append(real(self, batch, model))
        return parts[-1]

    monkeypatch.setattr(MLMLoss, "__call__", noted)
    config = config_of(tiny, "train.steps=2", "train.accumulate=2", "train.log_every=1")
    train(config)
    reported = [
        value for _, name, value in read_metrics(Path(config.run) / "metrics.csv") if name == "train/loss_error"
    ]
    expected = [float(global_loss(parts[i : i + 2])["variance"].sqrt()) for i in (0, 2)]
    assert len(parts) == 4 and reported == pytest.approx(expected, rel=1e-5) and min(reported) > 0


def test_a_mask_rate_warmup_follows_the_progress_of_the_run_and_validates_at_its_end(tiny, monkeypatch):
    """The mask rate changes linearly over the steps, and validation always uses the last rate."""
    seen = []
    real = MLMLoss.score

    def noted(self, batch, model=None):
        seen.append((float(batch["p_mask"].max()), int(batch["noise_mask"].sum())))
        return real(self, batch, model)

    monkeypatch.setattr(MLMLoss, "score", noted)
    train(
        config_of(
            tiny, "objective.name=bert", "objective.mask_rate_start=0.9", "train.steps=8", "train.evaluate_rows=8"
        )
    )
    assert (
        len(seen) == 2 and seen[0] == seen[1] and seen[0][0] == pytest.approx(0.15)
    )  # the same noise at both validations


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_loader_is_raised_unchanged(tiny, monkeypatch, workers):
    """Lightning's own clean-up error must not replace it."""

    def spoilt(self, rows):
        raise ValueError("row 3 is spoilt")

    monkeypatch.setattr(PackedMLMCollator, "assemble", spoilt)
    monkeypatch.setattr("unmask.training.data.start_method", lambda: "fork")
    with pytest.raises(ValueError, match="row 3 is spoilt"):
        train(config_of(tiny, f"data.workers={workers}"))
