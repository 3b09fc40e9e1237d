"""Laws of the linear layer: it is nn.Linear, whichever product computes it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unmask.nn import linear
from unmask.nn.linear import Linear, packed
from unmask.ops.products import HAS_ONEDNN


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
            with packed(wide):
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


def test_the_faster_product_is_taken_in_float32(wide: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(linear, "served_by_onednn", lambda x, w, real=linear.served_by_onednn: taken.append(real(x, w)) or taken[-1])
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


def test_a_layout_lasts_no_longer_than_it_was_asked_for(wide: Linear) -> None:
    x = torch.randn(3, 24)
    model = nn.Sequential(wide)
    with torch.no_grad():
        with pytest.raises(RuntimeError), packed(model):
            assert (wide._laid_out is not None) == HAS_ONEDNN
            raise RuntimeError
        wide.weight.zero_()
        assert wide._laid_out is None
        assert torch.equal(wide(x), wide.bias.expand(3, -1))
    assert list(wide.state_dict()) == ["weight", "bias"]
