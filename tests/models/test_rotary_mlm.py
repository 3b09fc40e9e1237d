"""The model: nothing but a token's own document ever changes its logits."""

import inspect

import pytest
import torch

from unmask.contracts import MLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.attention import flex_block_mask

SIZES = {"num_embeddings": 20, "d_model": 32, "num_layers": 2, "nhead": 2, "dropout": 0.0, "max_length": 32}
IDS = torch.tensor([3, 4, 1, 5, 6, 1, 7])


def model(seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    made = RotaryTransformerMLMModel(**(SIZES | options)).eval().to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():  # far from the small initial weights, so that differences show
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def value_and_gradient(network, real, *args, **kwargs):
    """Logits at ``real`` ``[.., L]`` and the gradient of every parameter of a fixed function of them."""
    logits = network(*args, **kwargs)[real]
    weights = torch.linspace(-1, 2, logits.numel(), dtype=logits.dtype).view(logits.shape)
    return [logits.detach(), *torch.autograd.grad((logits * weights).sum(), list(network.parameters()))]


def same(found, wanted, atol=1e-12):
    return all(torch.allclose(a, b, atol=atol, rtol=1e-10) for a, b in zip(found, wanted, strict=True))


def alone():
    return value_and_gradient(model(), torch.ones(1, 7, dtype=torch.bool), IDS[None])


@pytest.mark.parametrize(("left", "right"), [(0, 3), (3, 0), (2, 5), (0, 0)])
def test_padding_changes_nothing(left, right):
    ids = torch.nn.functional.pad(IDS, (left, right), value=9)[None]  # not PAD: what padding holds must not matter
    mask = torch.nn.functional.pad(torch.ones(7, dtype=torch.bool), (left, right))[None]
    assert same(value_and_gradient(model(), mask, ids, mask), alone())


def test_batch_mates_change_nothing():
    ids = torch.stack(
        [torch.nn.functional.pad(IDS, (0, 3)), torch.randint(2, 20, (10,)), torch.zeros(10, dtype=torch.long)]
    )
    mask = torch.tensor([[1] * 7 + [0] * 3, [1] * 10, [0] * 10]).bool()
    first = mask & torch.tensor([[True], [False], [False]])
    assert same(value_and_gradient(model(), first, ids, mask), alone())


def test_holes_in_the_mask_are_as_if_they_were_not_there():
    keep = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    found = value_and_gradient(model(), keep[None], IDS[None], keep[None])
    assert same(found, value_and_gradient(model(), torch.ones(1, 5, dtype=torch.bool), IDS[keep][None]))


@pytest.mark.parametrize("before", [0, 1, 4])
def test_packing_changes_nothing(before):
    ids = torch.cat([torch.full((before,), 8), IDS, torch.tensor([2, 3, 4])])[None]
    segments = torch.tensor([[0] * before + [1] * 7 + [2] * 3])
    assert same(value_and_gradient(model(), segments == 1, ids, segment_ids=segments), alone())
    mask = segments < 2  # the last three are padding now
    assert same(value_and_gradient(model(), segments == 1, ids, mask, segment_ids=segments), alone())


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_equals_documents_forward():
    network, flex = model(dtype=torch.float32), model(dtype=torch.float32, use_flex_attn=True)
    ids, mask = torch.randint(2, 20, (2, 12)), torch.tensor([[1] * 9 + [0] * 3, [1] * 12]).bool()
    segments = torch.tensor([[0] * 4 + [1] * 8, [0] * 6 + [1] * 6])
    ready = flex_block_mask(segments, mask, 2, 12, ids.device)
    with torch.no_grad():
        wanted = network(ids, mask, segment_ids=segments)[mask]
        assert torch.allclose(flex(ids, mask, segment_ids=segments)[mask], wanted, atol=1e-4)
        positions = torch.tensor([[*range(4), *range(8)], [*range(6), *range(6)]])
        assert torch.allclose(network(ids, mask, positions, ready)[mask], wanted, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_any_number_of_batch_dimensions(shape):
    network = model()
    ids = torch.randint(2, 20, (*shape, 7))
    logits = network(ids)
    assert logits.shape == (*shape, 7, 20)
    flat = network(ids.reshape(-1, 7))
    assert torch.allclose(logits.reshape(-1, 7, 20), flat, atol=1e-12)
    mask = torch.rand(ids.shape) < 0.7
    assert torch.allclose(
        network(ids, mask).reshape(-1, 7, 20), network(ids.reshape(-1, 7), mask.reshape(-1, 7)), atol=1e-12
    )


def test_logits_at_are_the_logits_there():
    network, ids = model(), torch.randint(2, 20, (3, 7))
    where = torch.rand(3, 7) < 0.4
    hidden = network.hidden_states(ids)
    assert torch.allclose(network.logits_at(hidden, where), network(ids)[where], atol=1e-12)
    assert network.logits_at(hidden, torch.zeros_like(where)).shape == (0, 20)
    assert isinstance(network, MLMModel)


def test_rows_of_padding_are_finite():
    network, ids = model(), torch.zeros(2, 5, dtype=torch.long)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    assert network(ids, nothing).isfinite().all()
    logits = network(ids, nothing | torch.tensor([[True], [False]]))
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_positions_are_relative():
    network, ids = model(), IDS[None]
    somewhere = network(ids, positions=torch.arange(7)[None] + 20)
    assert torch.allclose(somewhere, network(ids), atol=1e-4)  # the rotary table is float32
    assert not torch.allclose(network(ids, positions=torch.arange(7)[None] * 2), network(ids), atol=1e-2)


def test_order_matters():
    network = model()
    swapped = IDS.clone()
    swapped[[0, 3]] = swapped[[3, 0]]
    assert not torch.allclose(network(swapped[None])[0, 5], network(IDS[None])[0, 5], atol=1e-3)


OPTIONS = {
    "dim_feedforward": 48,
    "activation": "gelu",
    "layer_norm_eps": 0.5,
    "rotary_emb_dim": 8,
    "rotary_base": 10.0,
    "final_layer_without_normalization": True,
    "tie_embeddings": True,
    "local_init_layers": 1,
    "d_model": 64,
    "num_layers": 3,
    "nhead": 4,
    "padding_idx": 3,
    "causal_block": 2,
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_output(option):
    """With the same seed, so that whatever is drawn alike stays alike."""

    def logits(**options):
        torch.manual_seed(0)
        made = RotaryTransformerMLMModel(**(SIZES | {"rotary_emb_dim": 16} | options)).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(5)  # the initial weights are too small for attention to show
        return made(IDS[None])

    changed = logits(**{option: OPTIONS[option]})
    assert not torch.allclose(changed, logits(), atol=1e-4)


def test_every_option_is_tested():
    elsewhere = {"shift", "num_embeddings", "mask_idx", "dropout", "max_length", "force_flash_attn", "use_flex_attn"}
    assert set(inspect.signature(RotaryTransformerMLMModel).parameters) == set(OPTIONS) | elsewhere


def test_config_rebuilds_the_model():
    made = model(tie_embeddings=True, local_init_layers=2, rotary_base=20.0)
    again = RotaryTransformerMLMModel(**made.config).eval().double()
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(IDS[None]), made(IDS[None]))


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu", "squared_relu"])
def test_activations_differ(activation):
    others = {"relu", "gelu", "gelu_tanh", "silu", "squared_relu"} - {activation}
    mine = model(activation=activation)(IDS[None])
    assert all(not torch.allclose(mine, model(activation=other)(IDS[None]), atol=1e-6, rtol=0) for other in others)


def test_dropout_only_in_training():
    network = model(dropout=0.5)
    assert torch.equal(network(IDS[None]), network(IDS[None])) and torch.equal(network(IDS[None]), model()(IDS[None]))
    network.train()
    assert not torch.equal(network(IDS[None]), network(IDS[None]))


@pytest.mark.filterwarnings("ignore:.*kernel")
@pytest.mark.filterwarnings("ignore:Both fused")
def test_flash_only():
    network = model(force_flash_attn=True, dropout=0.5)
    assert torch.allclose(network(IDS[None]), model()(IDS[None]), atol=1e-12)
    network.train()
    with pytest.raises(RuntimeError, match="kernel"):  # the CPU's flash kernel has no dropout
        network(IDS[None])


def test_tied_weights_are_one():
    tied = model(tie_embeddings=True)
    assert tied.head.projection.weight is tied.embedding.weight
    assert model().head.projection.weight is not model().embedding.weight


def test_the_padding_embedding_is_zero():
    for options in ({}, {"tie_embeddings": True}):
        fresh = RotaryTransformerMLMModel(**(SIZES | options))
        assert not fresh.embedding.weight[0].any()


@pytest.mark.parametrize("length", [33, 40])
def test_too_long_rows_are_explained(length):
    network = model()
    with pytest.raises(ValueError, match=rf"row of {length} tokens .*max_length"):
        network(torch.full((1, length), 5))
    with pytest.raises(ValueError, match="max_length"):
        network(torch.full((1, length), 5), torch.ones(1, length, dtype=torch.bool))
    packed = torch.arange(length)[None] // 16
    assert network(torch.full((1, length), 5), segment_ids=packed).shape == (1, length, 20)


def test_a_position_too_far_is_explained():
    with pytest.raises(ValueError, match=r"row of 37 tokens .*max_length"):
        model()(IDS[None], positions=torch.arange(7)[None] + 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nhead": 3}, "nhead=3"),
        ({"d_model": 6, "nhead": 2}, "even size"),
        ({"activation": "tanh"}, "relu, gelu"),
        ({"mask_idx": 20}, "mask_idx=20"),
        ({"padding_idx": -1}, "padding_idx=-1"),
    ],
)
def test_bad_sizes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        RotaryTransformerMLMModel(**(SIZES | options))
