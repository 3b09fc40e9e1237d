"""Rotary positions: scores depend on distances alone; fresh heads may look at their neighbours."""

import pytest
import torch

from unmask.nn.attention import DensePlan
from unmask.nn.encoder import EncoderBlock, initialise, initialise_local_attention
from unmask.nn.rotary import RotaryTable, rotate


def table(dim=8, base=100.0):
    made = RotaryTable(dim, 64, base)
    # In float64 throughout, so that laws hold to rounding.
    angles = torch.arange(64, dtype=torch.float64)[:, None] * base ** (
        -torch.arange(0, dim, 2, dtype=torch.float64) / dim
    )
    made.cos, made.sin = angles.cos(), angles.sin()
    return made


def test_the_table_is_the_formula():
    made = RotaryTable(6, 10, 50.0)
    for position in range(10):
        for pair in range(3):
            angle = torch.tensor(position * 50.0 ** (-2 * pair / 6))
            assert made.cos[position, pair] == pytest.approx(float(angle.cos()), abs=1e-6)
            assert made.sin[position, pair] == pytest.approx(float(angle.sin()), abs=1e-6)


def test_scores_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 2, 8, generator=generator, dtype=torch.float64)
    made = table()

    def score(i, j):
        rotated = [rotate(x, made(torch.tensor([at]))) for x, at in ((q, i), (k, j))]
        return (rotated[0] * rotated[1]).sum(-1)

    for distance in (-3, 0, 5):
        far = [score(i, i + distance) for i in (4, 20, 50)]
        assert torch.allclose(far[0], far[1], atol=1e-12) and torch.allclose(far[0], far[2], atol=1e-12)
    assert not torch.allclose(score(4, 7), score(4, 8))


def test_rotation_keeps_lengths_and_leaves_the_other_channels():
    x = torch.randn(5, 2, 12, dtype=torch.float64)
    turned = rotate(x, table()(torch.arange(5)))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-12)
    assert torch.equal(turned[..., 8:], x[..., 8:]) and torch.equal(turned[0], x[0])
    assert not torch.allclose(turned[1:, :, :8], x[1:, :, :8])


@pytest.mark.parametrize("dim", [8, 16])
def test_fresh_heads_attend_to_their_offsets(dim):
    """With the content held constant, head h attends most to offset -1, +1, -2, +2, ..."""
    torch.manual_seed(0)
    block, rotary = EncoderBlock(64, 4, 64, 0.0, "gelu", 1e-5), RotaryTable(dim, 40, 1e4)
    initialise(block, 1)
    initialise_local_attention(block, rotary.angle_per_step)
    seen = {}

    class Watch(DensePlan):
        def __call__(self, q, k, v, dropout):
            seen["p"] = (torch.einsum("qhc,khc->hqk", q, k) / q.shape[-1] ** 0.5).softmax(-1)
            return super().__call__(q, k, v, dropout)

    block.attend(torch.randn(1, 64).expand(20, 64), rotary(torch.arange(20)), Watch(1, 20))
    for head, offset in enumerate((-1, 1, -2, 2)):
        for query in range(4, 16):
            assert int(seen["p"][head, query].argmax()) == query + offset
        assert seen["p"][head, 10, 10 + offset] > 2 / 20
