"""A network trained under the wrapper on a Markov chain on a grid samples its law."""

import pytest
import torch

from tests.nonautoregressive.networks import grid_chain, rotary
from unmask import NonAutoregressiveWrapper

HEIGHT, WIDTH = 2, 3
CELLS = HEIGHT * WIDTH


def rows_of(joint: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    drawn = torch.multinomial(joint.flatten(), count, replacement=True, generator=torch.Generator().manual_seed(seed))
    return drawn[:, None] >> torch.arange(CELLS - 1, -1, -1) & 1


def distance(rows: torch.Tensor, joint: torch.Tensor) -> float:
    """Total variation between the rows' frequencies and the law."""
    counts = torch.bincount((rows << torch.arange(CELLS - 1, -1, -1)).sum(-1), minlength=2**CELLS)
    return (counts / len(rows) - joint.flatten()).abs().sum().item() / 2


@pytest.mark.slow
def test_a_trained_network_samples_the_law_of_its_grid():
    joint = grid_chain(HEIGHT, WIDTH, seed=1)
    torch.manual_seed(0)
    model = NonAutoregressiveWrapper(
        rotary(vocab=2, width=32), mask_id=2, layout=(HEIGHT, WIDTH), no_replace_prob=0.0, random_token_prob=0.0
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = 600
    course = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for step in range(steps):
        model(rows_of(joint, 256, step)).backward()
        optimiser.step()
        optimiser.zero_grad()
        course.step()
    count = 4000
    true_rows = distance(rows_of(joint, count, 999), joint)  # what chance alone makes of so many rows
    sampled = model.generate(count, order="random", annealed=False, filter_thres=None, steps=CELLS, seed=0)
    assert distance(sampled, joint) < true_rows + 0.05
    independent = distance(torch.stack([sampled[torch.randperm(count), i] for i in range(CELLS)], 1), joint)
    assert independent > true_rows + 0.1, "the test would see cells that know nothing of each other"
