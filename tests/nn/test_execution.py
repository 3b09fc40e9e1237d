"""Blocks compiled, or with their activations made again, compute what blocks compute."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.nn.blocks import batch, network, value_and_gradient
from unmask.nn import execution as running
from unmask.nn.execution import BlockRunner, can_compile


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_are_bit_identical(dropout):
    kept, again = (
        value_and_gradient(BlockRunner(checkpoint_activations=r), batch([5, 9, 9]), dropout=dropout)
        for r in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_recomputed_activations_are_not_stored():
    def kept(runner):
        size = 0

        def pack(x):
            nonlocal size
            size += x.numel() * x.element_size()
            return x

        model = network(runner)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model.hidden_states(batch([40, 20])["input_ids"])
        return size

    assert kept(BlockRunner(checkpoint_activations=True)) < kept(BlockRunner()) / 3


@pytest.mark.skipif(not can_compile("cpu"), reason="no C++ compiler")
@pytest.mark.slow
def test_compiled_blocks_are_eager_ones_in_few_graphs():
    """Value and gradient, over batches of many shapes; fp32 to rounding, bf16 to its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.nn.blocks"], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_gradients_nothing_is_compiled(monkeypatch):
    def fails(device_type):
        raise AssertionError("compiled")

    monkeypatch.setattr(running, "_compiled", fails)
    model = network(BlockRunner(compiled=True))
    with torch.no_grad():
        model(batch([5])["input_ids"])
    with pytest.raises(AssertionError, match="compiled"):
        model(batch([5])["input_ids"])


def test_a_compiler_is_looked_for(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not can_compile("cpu") and can_compile("cuda")
