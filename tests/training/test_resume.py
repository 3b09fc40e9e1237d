"""Interruptions at difficult moments, and changed options on resuming: the result equals that of an uninterrupted run."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.config.tree import load_config
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.models.files import resolve_checkpoint, write_manifest
from unmask.runs import load_run, open_run
from unmask.training import callbacks, module
from unmask.training.callbacks import read_metrics


class Killed(Exception):
    pass


def left_by(run: str) -> tuple:
    """Weights, metrics and index of a run."""
    weights = load_file(resolve_checkpoint(run) / "model.safetensors")
    index = json.loads((Path(run) / "checkpoints" / "index.json").read_text())
    return {k: v.tolist() for k, v in weights.items()}, read_metrics(Path(run) / "metrics.csv"), index


def test_a_kill_while_validating_repeats_the_validation(tiny, tmp_path, monkeypatch):
    whole, killed = (config_of(tiny, f"run={tmp_path / name}") for name in ("whole", "killed"))
    train(whole)

    def dies(self, batch, batch_idx, validation_step=module.MaskedLMModule.validation_step):
        if self.trainer.global_step == 8:
            raise Killed
        return validation_step(self, batch, batch_idx)

    monkeypatch.setattr(module.MaskedLMModule, "validation_step", dies)
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    train(killed)
    assert left_by(killed.run) == left_by(whole.run)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_stop_signal_ends_after_a_whole_step_and_changes_nothing(tiny, tmp_path, monkeypatch, accumulate):
    """The signal comes in the middle of a step, at a step without validation: that step is finished, saved, and not validated."""
    whole, stopped = (
        config_of(tiny, f"run={tmp_path / name}", f"train.accumulate={accumulate}") for name in ("whole", "stopped")
    )
    train(whole)

    class Interrupted(callbacks.CleanStop):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 5 * accumulate and self.stopped is None:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(callbacks, "CleanStop", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    monkeypatch.undo()
    assert resolve_checkpoint(stopped.run).name == "step-00000006"
    train(stopped)
    assert left_by(stopped.run) == left_by(whole.run)


def test_resuming_with_another_accumulation_takes_the_same_steps(tiny, tmp_path):
    """Three steps of two passes, then steps of four: as one pass each, to rounding."""
    course = ("optim.decay=constant", "optim.warmup=0")
    whole = config_of(tiny, f"run={tmp_path / 'whole'}", "train.steps=8", *course)
    train(whole)
    changed = f"run={tmp_path / 'changed'}"
    train(config_of(tiny, changed, "train.steps=3", "train.accumulate=2", *course))
    train(config_of(tiny, changed, "train.steps=8", "train.accumulate=4", *course))
    one, two = (load_file(resolve_checkpoint(run) / "model.safetensors") for run in (whole.run, tmp_path / "changed"))
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-3, atol=1e-4, msg=name)
    steps = [row[0] for row in read_metrics(tmp_path / "changed" / "metrics.csv") if row[1] == "valid/loss"]
    assert steps == [4, 8]


def test_a_run_that_failed_before_its_first_checkpoint_may_be_corrected(tiny):
    with pytest.raises(ValueError, match="no/such"):
        train(config_of(tiny, "data.source=no/such.txt"))
    assert train(config_of(tiny, "train.steps=1")).name == "step-00000001"


def test_a_tokenizer_other_than_that_of_the_run_is_refused(tiny, tmp_path):
    """Same config, but the source was changed and prepared into another store: its ids have other meanings."""
    source = tmp_path / "source"
    source.mkdir()
    for n in range(8):
        (source / f"{n}.txt").write_text(f"abc abd abe abf {n} " * 50)
    train(config_of(tiny, f"data.source={source}", "train.steps=1"))
    for n in range(8):
        (source / f"{n}.txt").write_text(f"xyz xyw xyv xyu {n} " * 50)
    with pytest.raises(ValueError, match=r"data\.store=.*run="):
        train(config_of(tiny, f"data.source={source}", "train.steps=2", f"data.store={tmp_path / 'other'}"))


def test_processes_that_the_first_one_starts_leave_the_run_folder_alone(tiny, monkeypatch):
    """With train.resume=false they would otherwise move the folder of the running process aside."""
    from unmask.runs import open_run

    config = config_of(tiny, "train.resume=false")
    run = Path(config.run)
    open_run(config, run)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert open_run(config, run) is None
    assert run.is_dir() and not run.with_name("run.1").exists()


def test_an_incomplete_line_of_metrics_is_skipped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,name,value\n2,train/loss,5.5\n\xff\x00garbage\n4,train/loss,5.")
    assert read_metrics(path) == [(2, "train/loss", 5.5)]


def test_a_failure_stops_the_bar_and_closes_the_file(tiny, monkeypatch):
    """A bar left running after an error would hide the cursor of the user's terminal."""
    import io

    from rich.console import Console

    made = []

    def recorded(kind):
        class Recorded(kind):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                made.append(self)

        return Recorded

    def dies(self, batch, batch_idx):
        raise Killed

    for name in ("MetricsTable", "ProgressLine"):
        monkeypatch.setattr(callbacks, name, recorded(getattr(callbacks, name)))
    monkeypatch.setattr(module.MaskedLMModule, "validation_step", dies)
    with pytest.raises(Killed):
        train(config_of(tiny), console=Console(file=io.StringIO(), force_terminal=True))
    table, line = made
    assert table.file is None and line.bar is None


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_run_with_a_damaged_last_checkpoint_resumes_from_the_best_one(tiny, tmp_path, damage):
    """The run goes on from the best checkpoint and ends like one whose last was never harmed; the damaged one is kept aside."""
    too_fast = ("optim.lr=3", "optim.decay=constant")  # so that the best checkpoint is an earlier one
    whole, harmed = (config_of(tiny, f"run={tmp_path / name}", *too_fast) for name in ("whole", "harmed"))
    train(whole)
    train(harmed)
    folder = Path(harmed.run) / "checkpoints"
    index = json.loads((folder / "index.json").read_text())
    assert index["best"] != index["last"]
    if damage == "gone":
        shutil.rmtree(folder / index["last"])
    else:
        (folder / index["last"] / "model.safetensors").write_bytes(b"half")
    with pytest.warns(UserWarning, match=f"continues from the best checkpoint, {index['best']}"):
        train(harmed)
    assert left_by(harmed.run) == left_by(whole.run)
    assert len(list(folder.glob("damaged-*"))) == (damage == "truncated")


def test_without_an_intact_checkpoint_the_damage_is_named(tiny):
    config = config_of(tiny)
    train(config)
    for file in (Path(config.run) / "checkpoints").glob("step-*/model.safetensors"):
        file.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"damaged: model\.safetensors"):
        train(config)


def test_a_folder_that_lost_its_config_is_compared_with_that_of_its_checkpoint(tiny):
    """As after a deletion under a run, whose last act is to save a checkpoint."""
    config = config_of(tiny, "train.steps=2")
    saved = Path(config.run) / "config.yaml"
    train(config)
    saved.unlink()
    with pytest.raises(ValueError, match=r"optim\.lr \(saved: .*, now: 0\.5\)"):
        train(config_of(tiny, "train.steps=2", "optim.lr=0.5"))
    train(config_of(tiny, "train.steps=2"))
    assert load_config(saved) == config
    saved.unlink()
    open_run(config_of(tiny, "train.resume=false"), saved.parent)
    assert saved.parent.with_name(f"{saved.parent.name}.1").is_dir()


def test_under_an_external_launcher_only_the_first_rank_writes_and_none_moves_the_run(tiny, monkeypatch):
    config = config_of(tiny, "train.steps=2")
    run = Path(config.run)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")  # the first of another node
    assert open_run(config, run) is None and not (run / "config.yaml").exists()
    monkeypatch.setenv("RANK", "0")
    assert open_run(config, run) is None and (run / "config.yaml").exists()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ValueError, match="start all processes at once"):
        open_run(config_of(tiny, "train.resume=false"), run)
    assert run.exists()


def test_a_run_keeps_the_roles_of_its_tokenizer_and_a_bare_tokenizer_json_still_loads(tiny, tmp_path):
    """PAD is EOS, and the names of the tokens do not show it: loading, resuming and transformers read the roles beside the checkpoint's weights."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.train(["the cat sees the moon, a dog finds a stone"] * 5, 300)
    backend = tokenizer.backend.from_str(tokenizer.backend.to_str())
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ("<|end|>", "<|hidden|>")]
    )
    roles = {"mask": "<|hidden|>", "pad": "<|end|>", "eos": "<|end|>"}
    Tokenizer(backend, roles, {"model_max_length": 32}).save(tmp_path / "given")
    tiny["data"]["tokenizer"] = str(tmp_path / "given")
    checkpoint = train(config_of(tiny, "train.steps=4"))
    loaded = load_run(tiny["run"])
    assert (
        loaded.tokenizer.special_tokens == roles
        and loaded.tokenizer.fingerprint == Tokenizer.load(tmp_path / "given").fingerprint
    )
    theirs = AutoTokenizer.from_pretrained(checkpoint)
    assert (theirs.mask_token, theirs.pad_token, theirs.eos_token, theirs.model_max_length) == (
        "<|hidden|>",
        "<|end|>",
        "<|end|>",
        32,
    )
    assert train(config_of(tiny, "train.steps=8")).name == "step-00000008"

    bare = tmp_path / "bare"
    shutil.copytree(load_run(tiny["run"]).folder, bare)
    (bare / "tokenizer_config.json").unlink()
    write_manifest(bare, step=4)
    assert load_run(bare).tokenizer.encode("the moon") == loaded.tokenizer.encode("the moon")


def test_one_more_step_with_workers_in_a_resumed_run_is_that_of_an_uninterrupted_one(tiny, tmp_path):
    """More steps than the first time, so the learning-rate schedule differs, and rows are collated in another process."""
    whole, resumed = (f"run={tmp_path / name}" for name in ("whole", "resumed"))
    given = ("optim.warmup=0", f"data.store={tmp_path / 'store'}", "train.evaluate_every=100", "objective.name=bert")
    train(config_of(tiny, whole, "train.steps=3", *given))
    train(config_of(tiny, resumed, "train.steps=1", *given))
    train(config_of(tiny, resumed, "train.steps=3", "data.workers=1", *given))
    one, two = (load_file(resolve_checkpoint(tmp_path / name) / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_folder_alone_determines_the_config(tiny):
    from unmask.resume import config_to_resume

    begun = config_of(tiny, "train.steps=2", "objective.name=bert", "objective.probability=0.3", "optim.lr=0.02")
    run = f"run={begun.run}"
    train(begun)
    assert config_to_resume(None, [run]) == (begun, {})
    config, changed = config_to_resume(
        None, [run, "train.steps=4", "train.log_every=2", "objective.name=bert", "optim.lr=2e-2"]
    )
    assert changed == {"train.steps": (2, 4)} and config.train.steps == 4 and config.objective == begun.objective
    for given, named in (
        {
            "objective.probability=0.2": "0.3, now: 0.2",
            "objective.name=diffusion": "'bert', now: 'diffusion'",
            "seed=1": "saved: 0, now: 1",
        }
    ).items():
        with pytest.raises(ValueError, match=f"{given.split('=')[0]}.*{named}"):
            config_to_resume(None, [run, given])
    anew = config_to_resume(None, [run, "train.resume=false", "seed=1"])
    assert anew.changed is None and anew.config.seed == 1 and anew.config.objective.name == "diffusion"


def test_a_run_without_checkpoint_accepts_a_corrected_command(tiny):
    from unmask.resume import config_to_resume

    failed = config_of(tiny, "data.source=no/such.txt", "objective.name=bert")
    with pytest.raises(ValueError, match="no/such"):
        train(failed)
    assert config_to_resume(None, [f"run={failed.run}", "data.source=other.txt"]).config.objective.name == "diffusion"
    assert config_to_resume(None, [f"run={failed.run}"]).config == failed
