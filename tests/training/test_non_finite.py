"""A NaN loss or gradient: the step is left out or ends training, and its examples are written down."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.models.files import resolve_checkpoint
from unmask.training.callbacks import read_metrics
from unmask.training.data import InfiniteSampler
from unmask.training.module import MaskedLMModule


def spoiled(monkeypatch, what: str, at: int) -> None:
    """Make the loss, or a gradient alone, infinite at one step."""
    if what == "loss":
        real = MaskedLMModule.training_step

        def training_step(self, batch, batch_idx):
            out = real(self, batch, batch_idx)
            if self.trainer.global_step == at:
                self._sums[0] = torch.nan
                out = out * torch.nan
            return out

        monkeypatch.setattr(MaskedLMModule, "training_step", training_step)
        return
    before = MaskedLMModule.on_before_optimizer_step

    def on_before_optimizer_step(self, optimizer):
        before(self, optimizer)
        if self.trainer.global_step == at:
            optimizer.param_groups[0]["params"][0].grad.view(-1)[0] = torch.inf

    monkeypatch.setattr(MaskedLMModule, "on_before_optimizer_step", on_before_optimizer_step)


@pytest.mark.parametrize("clip", [0, 1.0])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_non_finite_step_stops_or_is_skipped(tiny, tmp_path, monkeypatch, what, clip):
    given = (
        f"optim.clip={clip}",
        "train.steps=6",
        "optim.warmup=0",
        "optim.decay=constant",
        "train.checkpoint_every=3",
    )
    skipped, stopped = tmp_path / "skipped", tmp_path / "stopped"
    spoiled(monkeypatch, what, 3)
    train(config_of(tiny, f"run={skipped}", "train.non_finite=skip", *given))
    with pytest.raises(
        ValueError, match=rf"The {what} is NaN or infinite at step 4.*non_finite\.jsonl.*non_finite=skip"
    ):
        train(config_of(tiny, f"run={stopped}", *given))
    assert resolve_checkpoint(stopped).name == "step-00000003"
    for run in (skipped, stopped):
        (line,) = [json.loads(each) for each in (run / "non_finite.jsonl").read_text().splitlines()]
        assert (line["step"], line["what"], len(line["examples"])) == (4, what, 8)
    weights = load_file(resolve_checkpoint(skipped) / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    assert all(value == value for _, name, value in read_metrics(skipped / "metrics.csv") if name == "train/loss")


def test_a_skipped_step_changes_no_weight(tiny, tmp_path, monkeypatch):
    one = train(config_of(tiny, f"run={tmp_path / 'a'}", "train.steps=3", "optim.decay=constant", "optim.warmup=0"))
    spoiled(monkeypatch, "loss", 3)
    tree = ("train.steps=4", "optim.decay=constant", "optim.warmup=0", "train.non_finite=skip")
    two = train(config_of(tiny, f"run={tmp_path / 'b'}", *tree))
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (one, two))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_examples_of_a_step_are_those_of_all_ranks_and_passes():
    whole = InfiniteSampler(20, 8, seed=1).samples(3 * 8 + torch.arange(8).numpy())[:, 2]
    parts = []
    for a in range(2):
        for rank in range(2):
            parts += next(iter(InfiniteSampler(20, 2, 1, start=3 * 2 + a, rank=rank, ranks=2)))[:, 2].tolist()
    assert parts == whole.tolist()


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="none of stop, skip"):
        MaskedLMModule(torch.nn.Linear(1, 1), None, None, non_finite="ignore")
