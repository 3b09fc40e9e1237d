"""The trace model: instruction and argument numbers reach it, padding and packing do not, and it is saved like any other."""

import pytest
import torch

from tests.models.test_rotary_mlm import same, value_and_gradient
from unmask.contracts import MLMModel
from unmask.models.files import read_model, write_manifest, write_model
from unmask.models.instruction_trace import (
    InstructionTraceMLMModel,
    InstructionTraceTransformerEncoderForMaskedLMConfiguration,
)
from unmask.models.tied_weights import restore_tied, tied_names
from unmask.nn.heads import MaskedLMHead
from unmask.nn.kv_cache import KVCache
from unmask.ops.segments import positions_from_segments

NEXT = 2
IDS = torch.tensor([3, 4, 2, 5, 1, 6, 2, 1, 7])
SIZES = {
    "num_embeddings": 20,
    "d_model": 32,
    "num_layers": 2,
    "nhead": 2,
    "next_idx": NEXT,
    "dropout": 0.0,
    "max_length": 32,
}


def model(seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    made = InstructionTraceMLMModel(**(SIZES | options)).eval().to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():  # far from the small initial weights, so that differences show
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def alone(**options):
    return value_and_gradient(model(**options), torch.ones(1, 9, dtype=torch.bool), IDS[None])


@pytest.mark.parametrize(("left", "right"), [(0, 3), (3, 0), (2, 5)])
def test_padding_changes_nothing(left, right):
    ids = torch.nn.functional.pad(IDS, (left, right), value=NEXT)[None]  # padding that looks like instructions is none
    mask = torch.nn.functional.pad(torch.ones(9, dtype=torch.bool), (left, right))[None]
    assert same(value_and_gradient(model(), mask, ids, mask), alone())
    positions = torch.nn.functional.pad(torch.arange(9), (left, right))[None]
    assert same(value_and_gradient(model(), mask, ids, mask, positions), alone())


def test_holes_in_the_mask_are_as_if_they_were_not_there():
    keep = torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 1]).bool()
    found = value_and_gradient(model(), keep[None], IDS[None], keep[None])
    wanted = value_and_gradient(model(), torch.ones(1, 6, dtype=torch.bool), IDS[keep][None])
    assert same(found, wanted)
    positions = torch.zeros(1, 9, dtype=torch.long).masked_scatter(keep[None], torch.arange(6))
    assert same(value_and_gradient(model(), keep[None], IDS[None], keep[None], positions), wanted)


@pytest.mark.parametrize("before", [0, 1, 4])
@pytest.mark.parametrize("told_by", ["segments", "segments and positions", "mask too"])
def test_packing_changes_nothing(before, told_by):
    """Instructions and arguments restart at every segment."""
    ids = torch.cat(
        [torch.full((before,), 8).where(torch.arange(before) % 2 == 1, NEXT), IDS, torch.tensor([2, 3, 4])]
    )[None]
    segments = torch.tensor([[0] * before + [1] * 9 + [2] * 3])
    options = {"segment_ids": segments}
    if told_by != "segments":
        options["positions"] = positions_from_segments(segments)
    if told_by == "mask too":
        options["attention_mask"] = segments < 2
    assert same(value_and_gradient(model(), segments == 1, ids, **options), alone())


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_positions_alone_say_where_documents_begin():
    """As under a BlockMask, which says who attends to whom and nothing of where documents begin."""
    from unmask.nn.attention import flex_block_mask

    network = model(dtype=torch.float32)
    ids, segments = torch.cat([IDS, IDS])[None], torch.tensor([[0] * 9 + [1] * 9])
    with torch.no_grad():
        block_mask = flex_block_mask(segments, None, 1, 18, ids.device)
        found = network(ids, positions=positions_from_segments(segments), block_mask=block_mask)
        assert torch.allclose(found[0, 9:], network(IDS[None])[0], atol=1e-4)


def test_the_numbers_of_instructions_and_arguments_reach_the_logits():
    """With the same tokens in the same places, other borders between instructions give other logits."""
    network = model()
    with torch.no_grad():
        network.embedding.weight[9] = network.embedding.weight[NEXT]  # an id that looks like [NEXT] and ends nothing
        ends, does_not = IDS.clone()[None], IDS.where(IDS != NEXT, 9)[None]
        first, second = network(ends), network(does_not)
        assert not torch.allclose(first[0, 4], second[0, 4], atol=1e-3)
        network.argument.weight.zero_()
        assert not torch.allclose(network(ends)[0, 4], network(does_not)[0, 4], atol=1e-3), (
            "the instruction number alone"
        )
        network.instruction.weight.zero_()
        assert torch.allclose(network(ends), network(does_not)), "and nothing else says where instructions end"
        network = model()
        network.embedding.weight[9] = network.embedding.weight[NEXT]
        network.instruction.weight.zero_()
        assert not torch.allclose(network(ends)[0, 4], network(does_not)[0, 4], atol=1e-3), "the argument number alone"


def test_places_are_relative():
    network = model()
    with torch.no_grad():
        shifted = network(IDS[None], positions=torch.arange(9)[None] + 5)
        assert torch.allclose(shifted, network(IDS[None]))


def test_masking_a_token_changes_no_position():
    network = model()
    hidden = IDS.where(IDS == NEXT, 1)
    places = [p.tolist() for p in network._places(IDS[None], None, None, None)]
    assert places == [p.tolist() for p in network._places(hidden[None], None, None, None)]


def test_the_head_is_linear_gelu_norm_decode():
    torch.manual_seed(0)
    head = MaskedLMHead(8, 5, 1e-5).double()
    with torch.no_grad():
        head.norm.weight.copy_(torch.randn(8))
        head.norm.bias.copy_(torch.randn(8))
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    h = x @ head.transform.weight.T + head.transform.bias
    h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
    h = (h - h.mean(-1, keepdim=True)) / (
        h.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt() * head.norm.weight + head.norm.bias
    assert torch.allclose(head(x), h @ head.decode.weight.T + head.decode.bias)


def test_logits_at_is_the_forward_there_and_a_cache_that_runs_everything_is_the_forward():
    network = model()
    assert isinstance(network, MLMModel)
    where = (IDS == 1)[None]
    with torch.no_grad():
        whole = network(IDS[None])
        assert torch.allclose(network.logits_at(network.hidden_states(IDS[None]), where), whole[where])
        features, weight, bias = network.projection_of(network.hidden_states(IDS[None])[where])
        assert torch.allclose(features @ weight.T + bias, whole[where])
        everywhere, real = torch.ones(1, 9, dtype=torch.bool), torch.ones(1, 9, dtype=torch.bool)
        memory = KVCache(1)
        hidden = network.hidden_states_at(IDS[None], everywhere, memory, torch.tensor([0]), real, torch.arange(9)[None])
        assert torch.allclose(network.head(hidden), whole[0])
        again = network.hidden_states_at(IDS[None], where, memory, torch.tensor([0]), real, torch.arange(9)[None])
        assert torch.allclose(network.head(again), whole[where])


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_saved_and_read_like_any_other(tied, tmp_path):
    network = model(dtype=torch.float32, tie_embeddings=tied, local_init_layers=1)
    config = {"architecture": "InstructionTraceMLMModel", **network.config}
    write_model(tmp_path, config, network.state_dict())
    write_manifest(tmp_path, step=1)
    again = read_model(tmp_path)
    assert type(again) is InstructionTraceMLMModel and torch.equal(again(IDS[None]), network(IDS[None]))
    assert (again.head.decode.weight is again.embedding.weight) == tied
    weights = dict(network.state_dict())
    weights.pop("head.decode.weight")
    restore_tied(weights, tied_names(network.state_dict()))
    assert ("head.decode.weight" in weights) == tied


def test_heads_may_start_at_their_neighbours():
    torch.manual_seed(0)
    network = InstructionTraceMLMModel(**SIZES, local_init_layers=1)
    assert (
        float(network.blocks[0].qkv.bias.detach().abs().max()) > 1
        and float(network.blocks[1].qkv.bias.detach().abs().max()) == 0
    )


def test_the_configurations_are_sizes_to_pass_on():
    options = InstructionTraceTransformerEncoderForMaskedLMConfiguration.options
    assert list(options) == ["tiny", "small", "medium", "large"]
    medium = InstructionTraceTransformerEncoderForMaskedLMConfiguration.medium
    assert (medium["depth"], medium["hidden_dimensions"], medium["heads"]) == (12, 768, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"next_idx": 20}, r"next_idx=20 .* vocabulary of 20"),
        ({"nhead": 5}, "even size"),
        ({"mask_idx": 33}, "mask_idx=33"),
    ],
)
def test_wrong_arguments_are_explained(options, words):
    with pytest.raises(ValueError, match=words):
        InstructionTraceMLMModel(**(SIZES | options))
