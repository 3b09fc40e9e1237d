"""Training from a network with its own code, and from a Lightning checkpoint; the run loads again, with trust where it has code."""

import pytest
import torch

import unmask
from tests.models.own_code_folders import own_code_folder
from tests.models.published_encoders import RotaryEncoder
from tests.training.test_start import begun
from unmask.build.run import train
from unmask.build.start import Start
from unmask.data.tokenizing.tokenizers import Tokenizer

STEPS = ("train.steps=2", "train.evaluate_every=2", "train.checkpoint_every=2")


@pytest.mark.parametrize("kind", ["dream", "llada2"])
def test_a_run_from_own_code_keeps_its_code_shift_and_blocks(kind, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = own_code_folder(kind, tmp_path / kind)
    config = begun(tiny, folder, *STEPS)
    with pytest.raises(ValueError, match="--trust-remote-code"):
        train(config)
    start = Start.open(config, trust_remote_code=True)
    network = start.network(start.complete(config).model, start.choose_tokenizer(None)).eval()
    source = unmask.load(folder, device="cpu", trust_remote_code=True).model
    ids = torch.randint(5, 290, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(ids), source(ids))
    checkpoint = train(config, trust_remote_code=True)
    with pytest.raises(ValueError, match=r"modeling_own\.py.*--trust-remote-code"):
        unmask.load(checkpoint)
    again = unmask.load(checkpoint, device="cpu", trust_remote_code=True).model
    assert again.shift is (kind == "dream") and again.causal_block == (4 if kind == "llada2" else None)
    assert again(ids).shape == source(ids).shape and not torch.equal(again(ids), source(ids))
    assert train(begun(tiny, folder, *STEPS[1:], "train.steps=4"), trust_remote_code=True) != checkpoint  # resumes


def test_a_run_from_a_lightning_checkpoint_starts_with_its_logits(tiny, tmp_path):
    tokenizer = Tokenizer.train(["the cat sees a house."] * 4, 280)
    theirs = RotaryEncoder(len(tokenizer), 16, 1, 2, 24, 4).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "last.ckpt")
    tokenizer.save(tmp_path / "tokenizer.json")
    config = begun(
        tiny, tmp_path / "last.ckpt", "model.nhead=2", "model.activation=relu", "model.max_length=64", *STEPS
    )
    start = Start.open(config)
    network = start.network(start.complete(config).model, start.choose_tokenizer(None)).eval()
    ids = torch.randint(5, 270, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(ids), theirs(ids), atol=1e-5, rtol=1e-4)
    assert unmask.load(train(config), device="cpu").model(ids).shape == (2, 9, len(tokenizer))
