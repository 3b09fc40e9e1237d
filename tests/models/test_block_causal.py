"""Block-causal attention: a token hears its own block and earlier ones, and nothing later, however rows are laid."""

import pytest
import torch

from tests.models.test_rotary_mlm import IDS, SIZES, model, same, value_and_gradient
from tests.naive.attention import allowed_pairs, attention
from tests.nn.test_attention import CASES, CPU, accelerator_plan, qkv
from tests.nn.test_attention import value_and_gradient as of_attention
from unmask.config.tree import load_config
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.attention import FlexPlan, flex_block_mask, plan_attention
from unmask.ops.segments import segment_starts

SIZE = 3


def blocks_of(mask, segments):
    """Attention blocks counted token by token: real tokens of one row and one segment, ``SIZE`` at a time."""
    blocks = torch.zeros_like(segments)
    for row in range(len(segments)):
        count = {}
        for column in range(segments.shape[1]):
            segment = int(segments[row, column])
            blocks[row, column] = count.get(segment, 0) // SIZE
            count[segment] = count.get(segment, 0) + int(mask[row, column])
    return blocks


def earlier_pairs(mask, segments):
    blocks = blocks_of(mask, segments).flatten()
    return allowed_pairs(mask, segments) & (blocks[None, :] <= blocks[:, None])


@pytest.mark.parametrize("device", ["cpu", "accelerator"])
@pytest.mark.parametrize("case", CASES)
def test_plans_equal_the_formula(case, device, monkeypatch):
    mask, segments = CASES[case]
    blocks, wanted, inputs = blocks_of(mask, segments), qkv(), qkv()
    if device == "cpu":
        plan, index = plan_attention(2, 8, CPU, mask, segments, blocks=blocks)
        assert index is None
    else:
        plan = accelerator_plan(monkeypatch, mask, segments, blocks)
    assert plan.mask.any(-1).all(), "some kernels give NaN for a query that may attend to nothing"
    found = of_attention(plan(*inputs, dropout=0.0), inputs, mask.flatten())
    expected = of_attention(attention(*wanted, earlier_pairs(mask, segments)), wanted, mask.flatten())
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("case", ["nothing", "holes", "packed, padded"])
def test_flex_equals_the_formula_forward(case):
    mask, segments = CASES[case]
    with torch.no_grad():
        q, k, v = (x.float() for x in qkv())
        out = FlexPlan(2, 8, flex_block_mask(segments, mask, 2, 8, CPU, blocks_of(mask, segments)))(
            q, k, v, dropout=0.0
        )
        real = mask.flatten()
        assert torch.allclose(out[real], attention(q, k, v, earlier_pairs(mask, segments))[real], atol=1e-5)


def networks():
    torch.manual_seed(0)
    trace = (
        InstructionTraceMLMModel(20, 32, 2, 2, next_idx=2, dropout=0.0, max_length=32, causal_block=SIZE)
        .eval()
        .double()
    )
    torch.nn.init.normal_(trace.instruction.weight)
    return {"rotary": model(causal_block=SIZE), "instruction trace": trace}


@pytest.mark.parametrize("network", networks().values(), ids=networks().keys())
def test_a_token_never_changes_earlier_blocks_and_changes_all_others(network):
    ids = torch.tensor([[3, 4, 1, 5, 2, 1, 7, 8]])
    plain = network(ids)
    for column in range(8):
        changed = ids.clone()
        changed[0, column] = 11
        non_adjacent = (network(changed) != plain).any(-1)[0]
        start = column // SIZE * SIZE
        assert not non_adjacent[:start].any() and non_adjacent[start:].all()


def test_without_it_attention_goes_both_ways():
    assert not torch.allclose(model()(IDS[None]), model(causal_block=SIZE)(IDS[None]))
    assert torch.allclose(model()(IDS[None]), model(causal_block=7)(IDS[None]), atol=1e-12)
    assert not torch.allclose(model(causal_block=2)(IDS[None]), model(causal_block=SIZE)(IDS[None]))


def alone():
    return value_and_gradient(model(causal_block=SIZE), torch.ones(1, 7, dtype=torch.bool), IDS[None])


@pytest.mark.parametrize(("left", "right"), [(0, 3), (2, 0), (2, 5)])
def test_padding_changes_nothing(left, right):
    ids = torch.nn.functional.pad(IDS, (left, right), value=9)[None]
    mask = torch.nn.functional.pad(torch.ones(7, dtype=torch.bool), (left, right))[None]
    assert same(value_and_gradient(model(causal_block=SIZE), mask, ids, mask), alone())


def test_packing_changes_nothing():
    ids = torch.cat([torch.full((4,), 8), IDS, torch.tensor([2, 3, 4])])[None]
    segments = torch.tensor([[0] * 4 + [1] * 7 + [2] * 3])
    network = model(causal_block=SIZE)
    assert same(value_and_gradient(network, segments == 1, ids, segment_ids=segments), alone())
    index = torch.arange(14)[None]
    positions = index - torch.where(segment_starts(segments), index, 0).cummax(-1).values
    assert same(value_and_gradient(network, segments == 1, ids, None, positions, segment_ids=segments), alone())


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_is_the_same_and_a_ready_mask_is_refused():
    ids = torch.randint(2, 20, (2, 12))
    network, flex = (model(dtype=torch.float32, causal_block=SIZE, use_flex_attn=f) for f in (False, True))
    with torch.no_grad():
        assert torch.allclose(flex(ids), network(ids), atol=1e-4)
    with pytest.raises(ValueError, match="Give segment_ids"):
        network(ids, block_mask=flex_block_mask(None, None, 2, 12, ids.device))
    with pytest.raises(ValueError, match="causal_block=0"):
        RotaryTransformerMLMModel(**SIZES, causal_block=0)


def test_the_config_says_it():
    assert load_config(overrides=["model.causal_block=16"]).model.causal_block == 16
    assert model(causal_block=5).config["causal_block"] == 5
