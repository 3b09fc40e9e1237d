"""Runs of autoregressive and block-diffusion models from a config: trained, resumed, loaded, evaluated and decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.conftest import config_of
from tests.training.test_resume import Killed, left_by
from unmask.build.run import train
from unmask.cli.sample_text import training_sampler
from unmask.runs import load_run
from unmask.text.loading import load
from unmask.training import module

OBJECTIVES = {
    "autoregressive": ("objective.name=autoregressive",),
    "blocks": ("objective.name=block_diffusion", "objective.block_size=4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_resumes_exactly_and_is_used_from_its_folder(name, tiny, tmp_path, monkeypatch):
    whole, killed = (config_of(tiny, f"run={tmp_path / run}", *OBJECTIVES[name]) for run in ("whole", "killed"))
    train(whole, sampler=training_sampler(whole))
    assert (Path(whole.run) / "samples.txt").read_text().strip()

    def dies(self, batch, batch_idx, step=module.MaskedLMModule.training_step):
        if self.trainer.global_step == 6:
            raise Killed
        return step(self, batch, batch_idx)

    monkeypatch.setattr(module.MaskedLMModule, "training_step", dies)
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    train(killed)
    assert left_by(killed.run) == left_by(whole.run)

    network = load_run(whole.run).model
    assert (network.causal_block, network.shift) == ((1, True) if name == "autoregressive" else (4, False))
    trained = load(whole.run)
    report = trained.evaluate(samples=2, baselines=False, documents=3)
    spread = report["models"]["trained"]["bits_per_token"]
    assert 0.0 < spread["value"] < 10.0
    assert ("Negative log-likelihood" in str(report)) == (name == "autoregressive")
    plain, cached = (
        trained.generate("the cat", new_tokens=6, seed=1, temperature=0.0, **options)
        for options in (
            {"block_length": network.causal_block, "aligned_blocks": True},
            {"cache": "block", "block_length": network.causal_block},
        )
    )
    assert plain.text == cached.text
    assert (report["accuracy"]["rate"] == 1.0) == (name == "autoregressive")
