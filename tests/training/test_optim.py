"""The learning-rate schedule and the parameter groups of the optimisers."""

import copy
import math

import pytest
import torch
from torch import nn

from unmask.config.optim_config import OptimConfig
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.training.optim import (
    _BLOCK,
    build_optimizer,
    freeze_parameters,
    learning_rate_factor,
    split_parameters,
)


def shares(total: int, **settings) -> list[float]:
    return [learning_rate_factor(step, OptimConfig(**settings), total) for step in range(total)]


def test_cosine_by_hand():
    found = shares(12, warmup=0.25, decay="cosine", final_lr=0.1)
    assert found[:3] == [1 / 3, 2 / 3, 1.0]
    assert found[-1] == pytest.approx(0.1)
    assert found[7] == pytest.approx(1 - 0.9 * 0.5 * (1 - math.cos(math.pi * 4 / 8)))


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant", "wsd"])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("warmup", [0.0, 0.001, 0.3, 1.0])
def test_any_run_length_and_warmup_works(decay, total, warmup):
    """A warm-up of less than one step, or of all steps, is no special case; no step has rate zero, none exceeds the peak."""
    found = shares(total, decay=decay, warmup=warmup)
    assert all(0 < share <= 1 for share in found)
    rising = round(warmup * total)
    assert found[:rising] == sorted(found[:rising])
    assert found[rising:] == sorted(found[rising:], reverse=True)


def test_decays_differ():
    courses = {tuple(shares(50, decay=d)) for d in ("cosine", "linear", "constant", "wsd")}
    assert len(courses) == 4


def test_wsd_is_constant_then_linear():
    found = shares(101, warmup=0.0, decay="wsd", final_lr=0.0)
    assert found[:81] == [1.0] * 81
    assert found[90] == pytest.approx(0.5)


def model(**options) -> RotaryTransformerMLMModel:
    return RotaryTransformerMLMModel(20, 8, 2, 2, dropout=0.0, **options)


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_one_group_once(tied):
    network = model(tie_embeddings=tied)
    blocks, matrices, rest = split_parameters(network)
    everything = [id(p) for part in (blocks, matrices, rest) for p in part]
    assert len(everything) == len(set(everything)) == len(list(network.parameters()))
    assert any(p is network.embedding.weight for p in rest)
    assert all(p.dim() == 1 or p is network.embedding.weight for p in rest)
    for name in ("adamw", "muon"):
        groups = build_optimizer(network, OptimConfig(name=name)).param_groups
        assert sorted(id(p) for g in groups for p in g["params"]) == sorted(everything)


def test_decay_shrinks_matrices_and_nothing_else():
    """With zero gradients, only decayed weights change: matrices by (1 - lr * decay)."""
    network = model()
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer = build_optimizer(network, OptimConfig(lr=0.1, weight_decay=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        decays = parameter.dim() == 2 and name != "embedding.weight"
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if decays else 1.0), msg=name)


def test_muon_steps_block_matrices_orthogonally_and_adamw_the_rest():
    network = model()
    blocks, _, _ = split_parameters(network)
    optimizer = build_optimizer(network, OptimConfig(name="muon", weight_decay=0.0, muon_lr=0.1))
    before = {id(p): p.detach().clone() for p in network.parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for parameter in blocks:
        moved = parameter.detach() - before[id(parameter)]
        singular = torch.linalg.svdvals(moved)
        assert singular.max() / singular.min() < 4, "Muon's update has nearly equal singular values"
    assert all((p.detach() != before[id(p)]).any() for p in network.parameters() if p.numel() > 1)


def test_muon_state_survives_a_round_trip_and_the_schedule_reaches_both_parts():
    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    torch.manual_seed(1)
    first = model()
    one = build_optimizer(first, OptimConfig(name="muon"))
    steps(first, one, 0)
    second = model()
    second.load_state_dict(first.state_dict())
    two = build_optimizer(second, OptimConfig(name="muon"))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer in (one, two):
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
    steps(first, one, 1)
    steps(second, two, 1)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"optim\.name"):
        two.load_state_dict(build_optimizer(first, OptimConfig()).state_dict())


def test_frozen_parameters_stay_bit_equal_and_have_no_state():
    torch.manual_seed(0)
    model = RotaryTransformerMLMModel(20, 16, 2, 2, tie_embeddings=True, dropout=0.0)
    freeze_parameters(model, ["head.projection.weight", "blocks.0.*"])
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name in ("adamw", "muon"):
        optimizer = build_optimizer(model, OptimConfig(name=name))
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        model(torch.randint(0, 20, (2, 8))).logsumexp(-1).sum().backward()
        optimizer.step()
        for key, parameter in model.named_parameters():
            frozen = key == "embedding.weight" or key.startswith("blocks.0.")  # tied to the projection
            assert (id(parameter) in held) != frozen
            assert torch.equal(parameter, before[key]) == frozen, key


def test_a_pattern_that_freezes_nothing_is_refused_with_near_names():
    model = RotaryTransformerMLMModel(20, 16, 1, 2)
    with pytest.raises(ValueError, match=r"'embeding.weight'.*embedding\.weight"):
        freeze_parameters(model, ["embeding.weight"])
    with pytest.raises(ValueError, match="nothing is left"):
        freeze_parameters(model, ["*"])


def test_blocks_of_transformers_are_blocks():
    names = (
        "blocks.0.qkv.weight",
        "model.bert.encoder.layer.3.a.weight",
        "model.transformer.h.1.b",
        "model.model.layers.10.c.weight",
    )
    assert all(_BLOCK.search(name) for name in names) and not _BLOCK.search("model.cls.predictions.decoder.weight")
