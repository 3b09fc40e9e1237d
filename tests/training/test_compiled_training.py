"""``train.compile`` and ``train.checkpoint_activations``: these change how a run computes, not its result."""

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import config_of
from unmask.build import network
from unmask.build.network import build_runner
from unmask.build.run import train
from unmask.models.files import resolve_checkpoint
from unmask.nn import execution as running


def weights(run) -> dict:
    return load_file(resolve_checkpoint(run) / "model.safetensors")


def test_a_run_that_recomputes_and_then_does_not_is_the_same_bit_for_bit(tiny, tmp_path):
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    train(config_of(tiny, f"run={whole}", "train.steps=4", "optim.decay=constant", "optim.warmup=0"))
    train(
        config_of(
            tiny,
            f"run={changed}",
            "train.steps=2",
            "optim.decay=constant",
            "optim.warmup=0",
            "train.checkpoint_activations=true",
        )
    )
    train(config_of(tiny, f"run={changed}", "train.steps=4", "optim.decay=constant", "optim.warmup=0"))
    assert all(torch.equal(value, weights(changed)[name]) for name, value in weights(whole).items())


def test_a_compiled_run_leaves_the_checkpoint_of_an_eager_one_and_resumes_it(tiny, tmp_path, monkeypatch):
    """Compilation itself is tested with the blocks; here a stand-in counts its calls."""
    calls = []
    monkeypatch.setattr(
        running, "_compiled", lambda device_type: lambda block, *given: calls.append(block) or block(*given)
    )
    monkeypatch.setattr(network, "can_compile", lambda device: True)
    whole, compiled = tmp_path / "whole", tmp_path / "compiled"
    train(config_of(tiny, f"run={whole}", "train.steps=4", "optim.decay=constant", "optim.warmup=0"))
    assert not calls
    train(
        config_of(
            tiny, f"run={compiled}", "train.steps=2", "optim.decay=constant", "optim.warmup=0", "train.compile=on"
        )
    )
    assert len(calls) == 2  # steps times blocks but the last, which works where it is read: validation is eager
    train(
        config_of(
            tiny, f"run={compiled}", "train.steps=4", "optim.decay=constant", "optim.warmup=0", "train.compile=off"
        )
    )
    assert {name: value.tolist() for name, value in weights(compiled).items()} == {
        n: v.tolist() for n, v in weights(whole).items()
    }


@pytest.mark.parametrize(
    ("wanted", "steps", "device", "compiled"),
    [
        ("auto", 10, "cuda", False),
        ("auto", 10**6, "cuda", True),
        ("auto", 10**6, "cpu", False),
        ("on", 10, "cpu", True),
        ("off", 10**6, "cuda", False),
    ],
)
def test_auto_compiles_long_runs_on_an_accelerator(tiny, wanted, steps, device, compiled, monkeypatch):
    monkeypatch.setattr(network, "can_compile", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda")
    config = config_of(tiny, f"train.steps={steps}", f"train.compile={wanted}").train
    assert build_runner(config, 10_000_000, 4096).compiled is compiled


def test_without_a_compiler_blocks_run_eagerly_with_a_warning(tiny, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match=r"needs a C\+\+ compiler.*train.compile=off"):
        assert not build_runner(config_of(tiny, "train.compile=on").train, 1, 1).compiled
