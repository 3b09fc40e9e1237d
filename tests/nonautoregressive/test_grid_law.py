"""A network trained on a Markov chain on a grid samples its distribution, with every option of the wrapper.

One token at a time in random order the law of what is generated can be had without sampling (``law_one_at_a_time``), so what training
left undone and what generation does wrong are told apart.
"""

import pytest
import torch
from torch import nn

from tests.naive.decoding import chi_square
from tests.naive.generating import law_one_at_a_time
from tests.nonautoregressive.networks import grid_chain, rotary
from unmask import NonAutoregressiveWrapper
from unmask.config.optim_config import OptimConfig
from unmask.training.optim import build_optimizer, learning_rate_factor

HEIGHT, WIDTH = 2, 3
CELLS = HEIGHT * WIDTH
WORTH = 2 ** torch.arange(CELLS - 1, -1, -1)
EXACT = {"order": "random", "annealed": False, "filter_thres": None, "steps": CELLS}


def rows_of(joint: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    drawn = torch.multinomial(joint.flatten(), count, replacement=True, generator=torch.Generator().manual_seed(seed))
    return drawn[:, None] // WORTH % 2


def counts(rows: torch.Tensor) -> torch.Tensor:
    return torch.bincount((rows * WORTH).sum(-1), minlength=2**CELLS)


def divergence(joint: torch.Tensor, law: torch.Tensor) -> float:
    """Nats of ``KL(joint, law)``."""
    p = joint.flatten()
    return (p * (p / law).log()).sum().item()


def wrapped(width: int = 32, **options) -> NonAutoregressiveWrapper:
    torch.manual_seed(0)
    return NonAutoregressiveWrapper(
        rotary(vocab=2, width=width),
        mask_id=2,
        layout=(HEIGHT, WIDTH),
        no_replace_prob=0.0,
        random_token_prob=0.0,
        **options,
    )


def trained(joint: torch.Tensor, steps: int = 400, **options) -> NonAutoregressiveWrapper:
    model, config = wrapped(**options), OptimConfig(name="muon", lr=4e-3, weight_decay=0.0)
    optimiser = build_optimizer(model, config)
    course = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(min(step, steps - 1), config, steps)
    )
    for step in range(steps):
        model(rows_of(joint, 256, step)).backward()
        optimiser.step()
        optimiser.zero_grad()
        course.step()
    return model.eval()


@pytest.mark.parametrize("self_cond", [False, True])
def test_samples_follow_the_computed_distribution(self_cond):
    """Untrained weights with strong conditioning: hidden states of another row, position or step would change the distribution."""
    model = wrapped(self_cond=self_cond).eval()
    nn.init.normal_(model.net.embedding.weight)  # or one row would hardly differ from another
    nn.init.normal_(model.net.head.projection.weight, std=0.3)
    if self_cond:
        nn.init.normal_(model.conditioning.project.weight, std=0.3)
    law = law_one_at_a_time(model, 2)
    assert law.sum().item() == pytest.approx(1)
    assert chi_square(counts(model.generate(6000, seed=0, **EXACT)), law) < 4


def test_a_separate_critic_leaves_the_generator_unchanged():
    """The weights are bit for bit equal after some steps with the same noise."""
    joint, weights = grid_chain(HEIGHT, WIDTH, seed=1), []
    for options in ({}, {"token_critic": rotary(vocab=2, seed=5)}):
        model = wrapped(**options)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        torch.manual_seed(1)
        for step in range(4):
            model(rows_of(joint, 32, step)).backward()
            optimiser.step()
            optimiser.zero_grad()
        weights.append({**model.net.state_dict(), **model.conditioning.state_dict()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"self_cond": True}, {"self_token_critic": True}], ids=["plain", "self-conditioned", "self-critic"]
)
def test_a_trained_network_samples_the_distribution_of_its_grid(options):
    """Five hundred samples pass a test against the true distribution; samples of independent cells fail it."""
    joint = grid_chain(HEIGHT, WIDTH, seed=1)
    model = trained(joint, **options)
    assert divergence(joint, law_one_at_a_time(model, 2)) < 0.03
    rows = model.generate(500, seed=0, **EXACT)
    assert chi_square(counts(rows), joint.flatten()) < 4
    non_adjacent = torch.stack(
        [rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(i)), i] for i in range(CELLS)], 1
    )
    assert chi_square(counts(non_adjacent), joint.flatten()) > 8
    if "self_token_critic" in options:
        told = model.generate(500, seed=0, **EXACT | {"order": None, "steps": 3, "noise_level_scale": 0.0})
        chance = model.generate(500, seed=0, **EXACT | {"steps": 3})
        log_p = joint.flatten().log()
        likelier = [(counts(rows) * log_p).sum().item() / len(rows) for rows in (told, chance)]
        assert likelier[0] > likelier[1] + 0.1, "the critic keeps the tokens that fit"
