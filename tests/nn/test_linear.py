"""Laws of the linear layer: it is nn.Linear, whichever product computes it."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unmask.nn import linear
from unmask.nn.linear import Linear, prepack_weights
from unmask.ops.matmul import HAS_ONEDNN


@pytest.fixture
def wide() -> Linear:
    torch.manual_seed(0)
    return Linear(24, 5000)


@pytest.mark.parametrize("rows", [0, 1, 7, 40])
@pytest.mark.parametrize("lay_out", [False, True])
def test_it_is_a_plain_linear_layer_to_rounding(wide: Linear, rows: int, lay_out: bool) -> None:
    x = torch.randn(rows, 24)
    with torch.no_grad():
        expected = F.linear(x, wide.weight, wide.bias)
        if lay_out:
            with prepack_weights(wide):
                found = wide(x)
        else:
            found = wide(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (2, 3), (1,)])
def test_its_gradients_are_those_of_a_plain_one(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = Linear(24, 30, bias=bias), torch.randn(*shape, 24, requires_grad=True)
    inputs, weights = [x, *layer.parameters()], torch.randn(*shape, 30)
    found = torch.autograd.grad((layer(x) * weights).sum(), inputs)
    wanted = torch.autograd.grad((F.linear(x, layer.weight, layer.bias) * weights).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=5))[:-1])
def test_linear_of_a_norm_equals_norm_then_linear_for_any_required_gradients(wanted: tuple[bool, ...]) -> None:
    torch.manual_seed(1)
    layer, x, scale, shift, weights = (
        Linear(24, 30),
        torch.randn(2, 3, 24),
        torch.randn(24),
        torch.randn(24),
        torch.randn(2, 3, 30),
    )
    assert layer.bias is not None
    inputs = [x, layer.weight, layer.bias, scale, shift]
    for source, of in zip(inputs, wanted, strict=True):
        source.requires_grad_(of)
    inputs = [source for source in inputs if source.requires_grad]
    found, plain = layer.linear_of(norm, x, scale, shift), layer(norm(x, scale, shift))
    assert torch.equal(found, plain)
    pairs = zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not HAS_ONEDNN, reason="this PyTorch has no oneDNN")
def test_the_recomputed_input_is_not_stored() -> None:
    def kept(call: Callable[[torch.Tensor], torch.Tensor]) -> int:
        storages: dict[int, int] = {}

        def pack(x: torch.Tensor) -> torch.Tensor:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            call(x)
        return sum(storages.values())

    layer, x = Linear(24, 30, bias=False), torch.randn(40, 24, requires_grad=True)
    assert kept(lambda x: layer(F.gelu(x))) - kept(lambda x: layer.linear_of(F.gelu, x)) == x.untyped_storage().nbytes()


def norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (24,), weight, bias)


def test_the_faster_product_is_taken_in_float32(wide: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(
        linear, "uses_onednn", lambda x, w, real=linear.uses_onednn: taken.append(real(x, w)) or taken[-1]
    )
    x = torch.randn(3, 24, requires_grad=True)
    wide(x).sum().backward()
    assert x.grad is not None and wide.weight.grad is not None
    with torch.no_grad():
        wide(x)
        wide.double()(x.double())
    assert taken == [HAS_ONEDNN, HAS_ONEDNN, False]


def test_float64_and_bf16_autocast_are_those_of_torch(wide: Linear) -> None:
    x = torch.randn(3, 24)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert wide(x).dtype == torch.bfloat16
        wide.double()
        assert torch.equal(wide(x.double()), F.linear(x.double(), wide.weight, wide.bias))


def test_prepacked_weights_last_for_the_context_only(wide: Linear) -> None:
    x = torch.randn(3, 24)
    model = nn.Sequential(wide)
    with torch.no_grad():
        with pytest.raises(RuntimeError), prepack_weights(model):
            assert (wide._prepacked is not None) == HAS_ONEDNN
            raise RuntimeError
        wide.weight.zero_()
        assert wide._prepacked is None
        assert torch.equal(wide(x), wide.bias.expand(3, -1))
    assert list(wide.state_dict()) == ["weight", "bias"]
