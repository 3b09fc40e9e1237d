"""Faults: what a kill, a full disk or a second writer leaves behind. Real kills are in tests/faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors import SafetensorError
from safetensors.torch import load_file

from tests.training.conftest import config_of
from tests.training.test_resume import Killed, left_by
from unmask.build.run import train
from unmask.data.store import writer
from unmask.models import files
from unmask.models.files import resolve_checkpoint, verify_manifest
from unmask.run_folder import hold_run
from unmask.training import callbacks, checkpoints
from unmask.training.callbacks import CleanStop


def leftovers(run: Path) -> list[str]:
    """Temporary files, unnamed checkpoints and entries of finished shards in a run folder."""
    index = json.loads((run / "checkpoints" / "index.json").read_text())
    steps = {f.name for f in (run / "checkpoints").glob("step-*")} - {index["last"], index["best"]}
    return sorted([f.name for f in run.rglob(".*.tmp")] + list(steps) + [f.name for f in run.rglob("shard-*.json")])


def test_the_saved_weights_are_the_average_and_nothing_else_is_averaged(tiny):
    """Equal to the formula, step by step; tables of angles would drift by rounding, and restart without drift in a resumed run."""
    tiny["optim"]["ema"] = 0.9
    average: dict[str, torch.Tensor] = {}

    class ByHand(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            for name, weight in pl_module.model.named_parameters():
                new = weight.detach().clone()
                average[name] = 0.9 * average[name] + (1 - 0.9) * new if name in average else new

    checkpoint = train(config_of(tiny, "train.steps=6"), callbacks=[ByHand()])
    saved = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in average.items()) and average


def dies_at(monkeypatch, owner, name: str, when) -> None:
    """Replace a function by one that raises ``Killed`` at the call for which ``when`` of its arguments holds."""
    real = getattr(owner, name)

    def dies(*arguments, **options):
        if when(*arguments):
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, dies)


MOMENTS = {
    "between the folder and the index": (checkpoints, "write_json", lambda path, index: index["last"] == "step-00000008"),
    "between the last index and the removal": (
        checkpoints.shutil, "rmtree", lambda path, *_: Path(path).name == "step-00000008",
    ),
    "in the weights": (checkpoints, "write_model", lambda folder, *_: "step-00000008" in str(folder)),
    "in the sample of a validation": (callbacks.MetricsTable, "write", lambda _, trainer, name, __: name == "valid/accuracy"),
}  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_in_a_save_leaves_nothing_and_changes_nothing(tiny, tmp_path, monkeypatch, moment):
    whole, killed = (config_of(tiny, f"run={tmp_path / name}") for name in ("whole", "killed"))
    train(whole)
    monkeypatch.setattr("unmask.storage._remove", lambda path: None)  # a killed process removes no temporary file
    dies_at(monkeypatch, *MOMENTS[moment])
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    run = Path(killed.run)
    (run / "checkpoints").mkdir(exist_ok=True)
    for folder in (run, run / "checkpoints"):
        (folder / ".metrics.csv.0123abcd.tmp").write_text("half")
    train(killed)
    assert left_by(killed.run) == left_by(whole.run)
    train(killed)  # a finished run is swept too
    assert leftovers(run) == []


def test_a_kill_between_manifest_and_entries_of_shards_leaves_no_entry(tiny, monkeypatch):
    dies_at(monkeypatch, writer, "_sweep_entries", lambda folder: True)
    with pytest.raises(Killed):
        train(config_of(tiny))
    monkeypatch.undo()
    folder = Path(tiny["run"]) / "data"
    (folder / ".prepared.json.0123abcd.tmp").write_text("half")
    assert list(folder.rglob("shard-*.json"))
    train(config_of(tiny))
    assert leftovers(Path(tiny["run"])) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos; PytorchStreamWriter failed writing file"),
    ],
)  # fmt: skip
def test_a_full_disk_keeps_the_last_checkpoint_and_says_what_to_do(tiny, tmp_path, monkeypatch, error):
    whole, full = (config_of(tiny, f"run={tmp_path / name}") for name in ("whole", "full"))
    train(whole)

    def fails(folder, *arguments, real=files.write_model):
        if "step-00000008" in str(folder):
            (folder / "model.safetensors").write_bytes(b"half")
            raise error
        return real(folder, *arguments)

    monkeypatch.setattr(checkpoints, "write_model", fails)
    with pytest.raises(OSError, match=rf"disk is full: {full.run}/checkpoints/step-00000008 .*Free some space"):
        train(full)
    monkeypatch.undo()
    assert verify_manifest(resolve_checkpoint(full.run))["step"] == 4
    train(full)
    assert left_by(full.run) == left_by(whole.run) and leftovers(Path(full.run)) == []


def test_a_run_folder_has_one_writer_and_a_killed_one_frees_it(tmp_path):
    code = "import sys,time; from unmask.run_folder import hold_run\nwith hold_run(__import__('pathlib').Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "run"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"Process {other.pid} on .*kill -INT.*run="), hold_run(tmp_path / "run"):
            pass
        other.kill()
        other.wait()
    with hold_run(tmp_path / "run"):
        pass


def test_a_second_training_of_a_folder_in_use_is_refused(tiny):
    config = config_of(tiny)
    with hold_run(Path(config.run)), pytest.raises(ValueError, match=f"Process {os.getpid()}"):
        train(config)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_every_ending_signal_saves_and_leaves(tiny, monkeypatch, name):
    class Interrupted(CleanStop):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 2 and self.stopped is None:
                os.kill(os.getpid(), getattr(signal, name))

    number = getattr(signal, name)
    inherited = signal.signal(number, signal.SIG_DFL)  # a program in the background ignores it, and so do its tests
    try:
        monkeypatch.setattr(callbacks, "CleanStop", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config_of(tiny))
        assert resolve_checkpoint(tiny["run"]).name == "step-00000003"
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, inherited)


def test_a_hangup_that_is_ignored_stays_ignored(tiny):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = CleanStop()
        stop.on_train_start(None, None)
        assert signal.SIGHUP not in stop.before and signal.SIGTERM in stop.before
        stop.teardown(None, None, "fit")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_train_keep_keeps_the_latest_checkpoints_and_the_best(tiny):
    train(config_of(tiny, "train.keep=2", "train.checkpoint_every=2"))
    folder = Path(tiny["run"]) / "checkpoints"
    index = json.loads((folder / "index.json").read_text())
    assert index["kept"] == ["step-00000010", "step-00000012"]
    assert {f.name for f in folder.glob("step-*")} == {*index["kept"], index["best"]}
    shutil.copytree(folder / index["last"], folder / "step-00000003")
    train(config_of(tiny, "train.steps=14", "train.keep=1", "train.checkpoint_every=2"))
    assert not (folder / "step-00000010").exists() and not (folder / "step-00000003").exists()
