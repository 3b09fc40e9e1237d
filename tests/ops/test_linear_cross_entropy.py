"""The projected cross-entropy equals projection, cross-entropy and weighting in value and in every gradient, in any chunks."""

import pytest
import torch

from unmask.ops.linear_cross_entropy import _cost, _whole_tiles, linear_cross_entropy, slope_in_place
from unmask.ops.weighting import regularised_nll, token_nll

VOCAB, WIDTH = 11, 6
REGULARISERS = {"plain": (0.0, 0.0), "smoothing": (0.2, 0.0), "z": (0.0, 0.05), "both": (0.2, 0.05)}


def drawn(count=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((count, WIDTH), (VOCAB, WIDTH), (VOCAB,))
    )
    targets = torch.randint(VOCAB, (count,), generator=generator)
    weights = torch.rand(count, generator=generator, dtype=dtype) * 9
    return [x.requires_grad_() for x in (hidden, weight, bias)], targets, weights


def naive(hidden, weight, bias, targets, weights, smoothing, z_loss):
    logits = hidden @ weight.T if bias is None else hidden @ weight.T + bias
    nll = token_nll(logits, targets)
    token_loss = regularised_nll(logits, nll, smoothing, z_loss)
    return (token_loss * weights).sum(), token_loss, nll, logits


@pytest.mark.parametrize("chunk", [1 << 25, 3 * VOCAB, 1])
@pytest.mark.parametrize("regularisers", REGULARISERS.values(), ids=REGULARISERS)
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_the_formula(biased, regularisers, chunk, monkeypatch):
    monkeypatch.setattr("unmask.ops.linear_cross_entropy.PIECE", 2 * VOCAB)
    (hidden, weight, bias), targets, weights = drawn()
    inputs = [hidden, weight, bias][: 3 if biased else 2]
    args = (hidden, weight, bias if biased else None, targets, weights, *regularisers)
    found, wanted = linear_cross_entropy(*args, chunk), naive(*args)
    for one, other in zip(found[:3], wanted[:3], strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    for factor in (1.0, -2.5):
        for one, other in zip(
            torch.autograd.grad(factor * found.numerator, inputs, retain_graph=True),
            torch.autograd.grad(factor * wanted[0], inputs, retain_graph=True), strict=True,
        ):  # fmt: skip
            assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("regularisers", REGULARISERS.values(), ids=REGULARISERS)
def test_the_form_for_a_compiler_equals_the_other(regularisers):
    """On an accelerator one compiled kernel computes losses and slopes."""
    logits, (_, targets, _) = torch.randn(7, VOCAB, dtype=torch.float64) * 3, drawn()
    first, second = logits.clone(), logits.clone()
    loss, nll, _ = _cost(first, targets, *regularisers, True)
    other, other_nll = slope_in_place(second, targets, *regularisers)
    for one, two in ((loss, other), (nll, other_nll), (first, second)):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-12)


def test_the_chunks_of_an_accelerator_are_whole_tiles():
    assert _whole_tiles(1 << 27, 32_000) == 4096 * 32_000 and _whole_tiles(1, 100) == 256 * 100


def test_the_best_token_is_returned_without_gradients():
    args = drawn()
    with torch.no_grad():
        found = linear_cross_entropy(*args[0], *args[1:])
    assert (
        torch.equal(found.best, naive(*args[0], *args[1:], 0.0, 0.0)[3].argmax(-1))
        and not found.numerator.requires_grad
    )
    assert linear_cross_entropy(*args[0], *args[1:]).best.numel() == 0


def test_only_required_gradients_are_computed():
    (hidden, weight, bias), targets, weights = drawn()
    found = linear_cross_entropy(hidden.detach(), weight, bias.detach(), targets, weights)
    assert torch.autograd.grad(found.numerator, [weight])[0].isfinite().all()


def test_nothing_scored_is_zero_with_zero_gradient():
    inputs, targets, weights = drawn(0)
    found = linear_cross_entropy(*inputs, targets, weights)
    gradients = torch.autograd.grad(found.numerator, inputs)
    assert float(found.numerator) == 0 and not any(g.any() for g in gradients)
    assert [g.shape for g in gradients] == [x.shape for x in inputs]


def test_extreme_logits_stay_finite():
    (hidden, weight, bias), targets, weights = drawn()
    found = linear_cross_entropy(hidden * 1e4, weight, bias, targets, weights)
    assert found.numerator.isfinite() and all(
        g.isfinite().all() for g in torch.autograd.grad(found.numerator, [hidden, weight, bias])
    )


@pytest.mark.parametrize("chunk", [1 << 25, 3 * VOCAB])
def test_under_autocast_it_is_near_the_formula_and_gradients_keep_the_dtype_of_their_inputs(chunk):
    inputs, targets, weights = drawn(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(*inputs, targets, weights, 0.1, 0.01, chunk)
    wanted = naive(*inputs, targets, weights, 0.1, 0.01)
    assert found.numerator.dtype == found.nll.dtype == torch.float32
    assert float(found.numerator) == pytest.approx(float(wanted[0]), rel=0.02)
    for one, other in zip(
        torch.autograd.grad(found.numerator, inputs), torch.autograd.grad(wanted[0], inputs), strict=True
    ):
        assert one.dtype == torch.float32 and (one - other).norm() < 0.03 * other.norm()


def test_no_more_than_a_chunk_of_logits_exists():
    """The largest tensor made is a chunk's, however many positions are scored."""
    (_, weight, bias), *_ = drawn()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            sizes = [
                x.numel() for x in (made if isinstance(made, (tuple, list)) else [made]) if isinstance(x, torch.Tensor)
            ]
            largest = max([largest, *sizes])
            return made

    hidden = torch.randn(400, WIDTH, dtype=torch.float64).requires_grad_()
    with Watch():
        found = linear_cross_entropy(
            hidden, weight, bias, torch.zeros(400, dtype=torch.long), torch.ones(400), chunk=5 * VOCAB
        )
        found.numerator.backward()
    assert largest <= 400 * WIDTH < 400 * VOCAB
