"""Two processes: the same steps as one, split weights, and checkpoints that any number of processes can continue."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

import unmask
from tests.training import processes
from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.models.files import resolve_checkpoint
from unmask.models.weight_files import is_sharded, read_weights
from unmask.training.callbacks import read_metrics

pytestmark = pytest.mark.slow

CLIPPED = ("objective.name=bert", "optim.clip=0.05", "train.steps=4", "train.logger=none", "train.log_every=1")


class Noise(Callback):
    """Write the corrupted rows of every pass: a line each, with the optimiser step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"{trainer.global_rank}.txt", "a") as file:
            for row, kept in zip(batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True):
                real = [id for id, there in zip(row, kept, strict=True) if there]
                file.write(f"{trainer.global_step} {real}\n")


def noise_of(folder: Path) -> list[str]:
    return sorted(line for file in folder.glob("*.txt") for line in file.read_text().splitlines())


def trained(config, noise: Path | None = None):
    train(config, callbacks=[] if noise is None else [Noise(noise)], workers=1)


def each(configs):
    for config, noise in configs:
        trained(config, noise)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_weights(resolve_checkpoint(run))


def losses(run: Path) -> list[tuple[int, str, float]]:
    return [row for row in read_metrics(run / "metrics.csv") if row[1] in ("train/loss", "valid/loss")]


VARIANTS = {
    "averaged": ("optim.ema=0.9", "model.tie_embeddings=true"),
    "checkpointed": ("train.checkpoint_activations=true", "train.freeze=[blocks.0.*]"),
}


def test_two_processes_take_the_steps_of_one(tiny, tmp_path):
    """2 processes × 4 rows = 1 × 8 = 1 × 4 × 2 passes: the same noise exactly, the same losses and weights to rounding, under
    ddp and fsdp, with clipped gradients, averaged and tied weights, activation checkpointing and frozen weights."""
    tiny["data"]["store"] = str(tmp_path / "store")
    several, found = [], {}
    for variant, extra in VARIANTS.items():
        for name, how in {
            "one": (), "accumulated": ("train.accumulate=2",), "ddp": ("train.strategy=ddp",), "fsdp": ("train.strategy=fsdp",)
        }.items():  # fmt: skip
            run = tmp_path / variant / name
            config = config_of(tiny, f"run={run}", *CLIPPED, *extra, *how)
            found[variant, name] = run
            if name in ("one", "accumulated"):
                trained(config, run / "noise")
            else:
                several.append((config, run / "noise"))
    processes.run(tmp_path / "output", each, several)
    for (variant, name), run in found.items():
        one = found[variant, "one"]
        assert len(noise_of(one / "noise")) == 4 * 8 and noise_of(run / "noise") == noise_of(one / "noise")
        assert [row[:2] for row in losses(run)] == [row[:2] for row in losses(one)]
        for (step, what, expected), row in zip(losses(one), losses(run), strict=True):
            assert row[2] == pytest.approx(expected, rel=2e-5), f"{variant} {name} {step} {what}"
        assert is_sharded(resolve_checkpoint(run)) == (name == "fsdp")
        for key, expected in weights(one).items():
            torch.testing.assert_close(
                weights(run)[key], expected, rtol=1e-3, atol=1e-4, msg=f"{variant} {name}: {key}"
            )


def test_split_checkpoints_continue_on_any_number_of_processes(tiny, tmp_path):
    """2 → 2 is bit-identical to an uninterrupted run; 2 → 1 and 1 → 2 agree to rounding. A damaged one is named and skipped."""
    tiny["data"]["store"] = str(tmp_path / "store")
    fixed = ("train.strategy=fsdp", "optim.ema=0.9", "optim.decay=constant", "optim.warmup=0", *CLIPPED)

    def config(name, steps):
        return config_of(
            tiny, f"run={tmp_path / name}", *fixed, f"train.steps={steps}", "train.checkpoint_every=2", "train.keep=2"
        )

    processes.run(tmp_path / "zeroth", each, [(config("from one", 3), None)], count=1)
    processes.run(
        tmp_path / "first",
        each,
        [(config(name, steps), None) for name, steps in [("whole", 6), ("resumed", 3), ("to one", 3)]],
    )
    folder = tmp_path / "resumed" / "checkpoints"
    index = json.loads((folder / "index.json").read_text())
    assert (index["last"], index["kept"]) == ("step-00000003", ["step-00000002", "step-00000003"])
    assert sorted(f.name for f in folder.iterdir()) == ["index.json", *index["kept"]]
    processes.run(tmp_path / "second", each, [(config("resumed", 6), None), (config("from one", 6), None)])
    processes.run(tmp_path / "alone", each, [(config("to one", 6), None)], count=1)
    whole = weights(tmp_path / "whole")
    for key, expected in whole.items():
        assert torch.equal(weights(tmp_path / "resumed")[key], expected), key
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    for name in ("to one", "from one"):
        for key, expected in whole.items():
            torch.testing.assert_close(
                weights(tmp_path / name)[key], expected, rtol=1e-3, atol=1e-4, msg=f"{name}: {key}"
            )

    damaged = tmp_path / "whole" / "checkpoints"
    index = json.loads((damaged / "index.json").read_text())
    assert index["best"] != index["last"] and index["last"] == "step-00000006"
    part = next((damaged / index["last"] / "sharded").glob("shard-00002-model-00001*"))
    part.write_bytes(part.read_bytes()[:-4])
    with pytest.raises(ValueError, match=rf"damaged: sharded/{part.name} has changed"):
        unmask.load(tmp_path / "whole")
    processes.run(tmp_path / "third", each, [(config("whole", 6), None)])
    printed = processes.output_of(tmp_path / "third", 0)
    assert "damaged" in printed and f"continues from the best checkpoint, {index['best']}" in printed
    assert [f.name for f in damaged.glob("damaged-*")] == ["damaged-step-00000006.1"]
    for key, expected in whole.items():
        assert torch.equal(weights(tmp_path / "whole")[key], expected), key


def test_a_split_run_loads_and_exports_as_plain_safetensors(tiny, tmp_path):
    """With one process, which needs no launcher: the same weights as an unsplit run, loaded and exported."""
    from unmask.export.hub_folder import export_run

    found = {}
    for strategy in ("auto", "fsdp"):
        run = tmp_path / strategy
        config = config_of(
            tiny, f"run={run}", f"train.strategy={strategy}", *CLIPPED, f"data.store={tmp_path / 'store'}"
        )
        processes.run(tmp_path / f"output-{strategy}", each, [(config, None)], count=1)
        export_run(run, tmp_path / f"export-{strategy}")
        found[strategy] = unmask.load(run), read_weights(tmp_path / f"export-{strategy}")
    assert (tmp_path / "export-fsdp" / "model.safetensors").is_file()
    ids = torch.arange(5, 15)[None]
    torch.testing.assert_close(found["fsdp"][0].model(ids), found["auto"][0].model(ids), rtol=1e-4, atol=1e-5)
    for key, expected in found["auto"][1].items():
        torch.testing.assert_close(found["fsdp"][1][key], expected, rtol=1e-4, atol=1e-5)


def test_a_missing_part_is_named(tiny, tmp_path):
    config = config_of(tiny, "train.strategy=fsdp", *CLIPPED)
    processes.run(tmp_path / "output", each, [(config, None)])
    checkpoint = resolve_checkpoint(config.run)
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (copy / "sharded" / "shard-00002-model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard-00002-model-00001-of-00002\.safetensors is missing"):
        unmask.load(copy)
