"""``unmask info`` says what a path is; ``unmask train --seeds`` trains one run per seed."""

import json

from unmask.export.hub_folder import export_run
from unmask.models.files import resolve_checkpoint
from unmask.storage import digest


def facts_of(unmask, *arguments):
    answer = unmask("info", *arguments, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_every_thing_is_described(unmask, trained, tmp_path):
    run = facts_of(unmask, trained, "--checkpoint", "best")
    best = resolve_checkpoint(trained, "best")
    assert (run["kind"], run["network"], run["width"]) == ("run", "RotaryTransformerMLMModel", 32)
    assert run["sha256"] == digest(best / "model.safetensors") and run["objective"] and run["init"] is None
    assert facts_of(unmask, best)["kind"] == "checkpoint"
    store = facts_of(unmask, trained / "data")
    assert store["kind"] == "prepared store" and store["tokenizer"]["ids"] == run["tokenizer"]["ids"]
    train = facts_of(unmask, trained / "data" / "train")
    assert (train["kind"], train["tokens"]) == ("token store", store["train_tokens"])
    export_run(trained, tmp_path / "exported")
    exported = facts_of(unmask, tmp_path / "exported")
    assert (exported["kind"], exported["parameters"]) == ("export of unmask", run["parameters"])
    text = unmask("info", trained).out
    assert "objective" in text and "width" in text and "{" not in text
    assert "describes folders" in unmask("info", best / "config.json").err
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("seed: 5")
    assert facts_of(unmask, tmp_path / "begun")["kind"] == "run without a checkpoint"
    refused = unmask("info", tmp_path / "nowhere")
    assert refused.code == 1 and "no model" in refused.err


def test_seeds_make_runs_that_share_a_store(unmask, corpus, tmp_path):
    keys = [
        f"data.source={corpus}", "data.vocab_size=300", "data.block_size=32", "model.preset=null", "model.d_model=16", "model.num_layers=1",
        "model.nhead=2", "train.steps=1", "train.batch_size=4", "train.evaluate_rows=4", f"run={tmp_path / 'runs'}",
    ]  # fmt: skip
    answer = unmask("train", *keys, "--seeds", "0,3")
    assert answer.code == 0, answer.err
    assert {path.name for path in (tmp_path / "runs").iterdir()} >= {"data", "run-0", "run-3"}
    zero, three = (facts_of(unmask, tmp_path / "runs" / name) for name in ("run-0", "run-3"))
    assert (zero["seed"], three["seed"]) == (0, 3) and zero["sha256"] != three["sha256"]
    assert unmask("train", f"run={tmp_path / 'runs'}", "train.steps=2", "--seeds", "0,3").code == 0  # resumed
    assert facts_of(unmask, tmp_path / "runs" / "run-3")["step"] == 2
    listed = json.loads((tmp_path / "runs" / "runs.json").read_text())["runs"]
    assert listed == [{"run": "run-0", "seed": 0}, {"run": "run-3", "seed": 3}]
    assert all((tmp_path / "runs" / each["run"] / "metrics.csv").is_file() for each in listed)
    assert "whole numbers" in unmask("train", *keys, "--seeds", "0,a").err
    assert "--seeds" in unmask("train", *keys, "seed=1", "--seeds", "0,1").err
