"""The draw is exact to the last unit: every id has its share of the uniforms, whatever the precision of the logits."""

import math

import pytest
import torch

from unmask.ops.sampling import draw, likeliest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_equal_tokens_are_drawn_equally_often(dtype):
    # Gumbel noise in bf16 drew id 0 of 1,000 equal tokens four times too often.
    rows = 4_000
    uniforms = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    drawn = draw(torch.full((rows, 1000), 0.37, dtype=dtype), uniforms)
    assert torch.bincount(drawn, minlength=1000).tolist() == [4] * 1000


def test_a_tail_beyond_single_precision_is_drawn():
    # Uniforms on a grid of 2^-24 draw a true tail mass of .0535 at .0135 (1,000 ids that are rare one by one).
    logits = torch.zeros(1, 1000)
    logits[:, 1:] = math.log(2.0**-30)
    tail = 999 * 2.0**-30 / (1 + 999 * 2.0**-30)
    for share in (0.0005, 0.5, 0.9995):
        id = int(draw(logits, torch.tensor([1 - tail * (1 - share)], dtype=torch.float64)))
        assert abs(id - (1 + 999 * share)) <= 1
    assert int(draw(logits, torch.tensor([1 - 2 * tail], dtype=torch.float64))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_likeliest_is_the_first_of_equals_and_a_nan_before_all(dtype):
    nan, inf = torch.nan, torch.inf
    rows = torch.tensor(
        [[1, 3, 3, 0], [-inf, -inf, -inf, -inf], [-inf, -inf, -5, -5], [2, inf, 0, inf], [4, nan, inf, nan]]
    ).to(dtype)
    assert likeliest(rows).tolist() == [1, 0, 2, 1, 1] == rows.argmax(-1).tolist()
    assert likeliest(rows.T[:4].T[:, ::2].requires_grad_()).tolist() == rows[:, ::2].argmax(-1).tolist()
    assert likeliest(rows[:0]).shape == (0,) and likeliest(rows).dtype == torch.int64
