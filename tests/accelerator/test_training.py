"""A training step on CUDA is that of a CPU: values and gradients, corruption, precision, and a resumed run."""

import math

import pytest
import torch
from safetensors.torch import load_file

from tests.ops.test_corruption import clean, every_scheme, keyed
from tests.training.conftest import config_of, corpus, tiny  # noqa: F401 (fixtures)
from unmask.build.run import train
from unmask.devices import choose_device
from unmask.measure.work import Work, diffusion_rows, document_lengths, masked_rows, packed, padded
from unmask.models.files import resolve_checkpoint
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.randomness import Noise
from unmask.training.callbacks import read_metrics
from unmask.training.loss import MLMLoss

pytestmark = pytest.mark.accelerator
LENGTH, VOCABULARY = 64, 60
DOCUMENTS = padded(document_lengths(8, 20, LENGTH), LENGTH, VOCABULARY)
WORKS = {
    "MLM": masked_rows(4, LENGTH, VOCABULARY),
    "diffusion": diffusion_rows(4, LENGTH, VOCABULARY),
    "padded": DOCUMENTS,
    "packed": packed(DOCUMENTS, LENGTH),
}


def value_and_gradients(work: Work, device: str, bf16: bool = False, **options) -> list[torch.Tensor]:
    """Loss and gradients of one step, on the CPU."""
    torch.manual_seed(0)
    network = RotaryTransformerMLMModel(
        VOCABULARY, 64, 2, 2, padding_idx=0, mask_idx=1, dropout=0.0, activation="gelu", tie_embeddings=True, **options
    ).to(device)
    loss = MLMLoss(weighting="inverse_p")
    batch = loss.locate(work.batch, network, 64 if device == "cuda" else 1)
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        value = loss({name: x.to(device) for name, x in batch.items()}, network)["loss"]
    return [x.cpu() for x in (value.detach(), *torch.autograd.grad(value, list(network.parameters())))]


def distance(found, wanted) -> float:
    return max(float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("flex", [False, True])
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_values_and_gradients_are_those_of_a_cpu(cuda, work, flex):
    """Under dense masks, and under FlexAttention where there is padding or packing."""
    found = value_and_gradients(work, "cuda", use_flex_attn=flex)
    assert distance(found, value_and_gradients(work, "cpu")) < 1e-3


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_bf16_is_fp32_rounded(cuda, work):
    """Packed documents run under the variable-length flash kernel."""
    assert distance(value_and_gradients(work, "cuda", bf16=True), value_and_gradients(work, "cpu")) < 0.06


@every_scheme
@pytest.mark.parametrize("left", [0, 3])
def test_the_same_positions_are_masked(cuda, corruption, left):
    ids, eligible = clean(40, 13), torch.rand(40, 13) < 0.8
    counters = (torch.arange(13) - left).expand(40, 13) if left else None
    keys = keyed(40).keys
    here = corruption(ids, eligible, Noise(keys, counters))
    there = corruption(
        ids.to(cuda), eligible.to(cuda), Noise(keys.to(cuda), None if counters is None else counters.to(cuda))
    )
    assert torch.equal(here.noise_mask, there.noise_mask.cpu())
    assert torch.equal(here.noisy_input_ids, there.noisy_input_ids.cpu())
    assert torch.allclose(here.p_mask, there.p_mask.cpu(), rtol=1e-6)


def test_a_resumed_run_is_the_uninterrupted_one_and_that_of_a_cpu(cuda, tiny, tmp_path):  # noqa: F811
    course = ("optim.decay=constant", "optim.warmup=0")
    runs = {name: f"run={tmp_path / name}" for name in ("whole", "stopped", "cpu")}
    train(config_of(tiny, runs["whole"], "train.steps=8", *course, "train.device=cuda"))
    train(config_of(tiny, runs["stopped"], "train.steps=4", *course, "train.device=cuda"))
    train(config_of(tiny, runs["stopped"], "train.steps=8", *course, "train.device=cuda"))
    train(config_of(tiny, runs["cpu"], "train.steps=8", *course, "train.device=cpu"))
    weights = {name: load_file(resolve_checkpoint(tmp_path / name) / "model.safetensors") for name in runs}
    for name, expected in weights["whole"].items():
        torch.testing.assert_close(weights["stopped"][name], expected, rtol=1e-4, atol=1e-5, msg=name)
        torch.testing.assert_close(weights["cpu"][name], expected, rtol=1e-2, atol=1e-3, msg=name)


def test_a_run_in_bf16_learns(cuda, tiny, tmp_path):  # noqa: F811
    assert choose_device("auto").type == "cuda"
    run = tmp_path / "bf16"
    train(config_of(tiny, f"run={run}", "train.steps=40", "train.precision=bf16", "train.device=auto"))
    losses = [value for _, name, value in read_metrics(run / "metrics.csv") if name == "train/loss"]
    assert losses[-1] < losses[0] - 0.5 and all(map(math.isfinite, losses))
