"""Plans of CUDA against the formula: masks, FlexAttention, and the variable-length flash kernel."""

import pytest
import torch

from tests.naive.attention import allowed_pairs, attention
from unmask.nn.attention import FlexPlan, plan_attention
from unmask.nn.packed_attention import PackedPlan

pytestmark = pytest.mark.accelerator
ROWS, LENGTH, HEADS, CHANNELS = 2, 96, 2, 32
SEGMENTS = torch.arange(LENGTH).div(torch.tensor([[40], [17]]), rounding_mode="floor")
REAL = torch.arange(LENGTH) < torch.tensor([[LENGTH], [70]])
CASES = {"packed": (None, SEGMENTS), "packed, padded": (REAL, SEGMENTS), "padded": (REAL, None)}
PLANS = {
    "masks": ({}, torch.float32, 1e-4),
    "flex": ({"use_flex": True}, torch.float32, 5e-3),
    "default in bf16": ({"dtype": torch.bfloat16}, torch.bfloat16, 2e-2),
    "flex in bf16": ({"use_flex": True, "dtype": torch.bfloat16}, torch.bfloat16, 2e-2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("plan", PLANS)
def test_value_and_gradient_are_the_formulas(cuda, plan, case):
    options, dtype, tolerance = PLANS[plan]
    real, segments = CASES[case]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(ROWS * LENGTH, HEADS, CHANNELS, generator=generator).to(dtype) for _ in range(3)]
    valid = (torch.ones(ROWS, LENGTH, dtype=torch.bool) if real is None else real).flatten()
    weights = torch.randn(int(valid.sum()), HEADS, CHANNELS, generator=generator)

    exact = [x.double().requires_grad_() for x in inputs]
    pairs = allowed_pairs(valid.view(ROWS, LENGTH), torch.zeros_like(SEGMENTS) if segments is None else segments)
    wanted = attention(*exact, pairs)[valid]
    wanted = [wanted, *torch.autograd.grad((wanted * weights).sum(), exact)]

    there = [x.to(cuda).requires_grad_() for x in inputs]
    made, index = plan_attention(
        ROWS, LENGTH, cuda, *(None if x is None else x.to(cuda) for x in (real, segments)), **options
    )
    assert isinstance(made, FlexPlan) == ("use_flex" in options)
    assert isinstance(made, PackedPlan) == (plan == "default in bf16" and segments is not None)
    out = made(*(there if index is None else [x[index] for x in there]), dropout=0.0)
    if index is not None:
        out = torch.zeros_like(there[0]).index_copy(0, index, out)
    out = out[valid.to(cuda)]
    found = [out, *torch.autograd.grad((out.float() * weights.to(cuda)).sum(), there)]
    for one, other in zip(found, wanted, strict=True):
        assert float((one.detach().cpu().double() - other).norm() / other.norm()) < tolerance
