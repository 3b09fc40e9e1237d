"""Training with the wrapper: masking, weights, the effect of every option, and learning."""

import math

import pytest
import torch

from tests.nonautoregressive.networks import MASK_ID, L, V, rotary, toy, x_wrapper
from unmask import MaskedTokenDataset, NonAutoregressiveWrapper
from unmask.ops.schedule import SCHEDULES, FixedCountTime, as_schedule

NAMES = ("linear", "cosine", "quadratic", "square_root", "arccos")


def wrapped(net=None, **options) -> NonAutoregressiveWrapper:
    return NonAutoregressiveWrapper(rotary() if net is None else net, mask_id=MASK_ID, **options)


def identified(rows, epoch=0):
    return {"input_ids": rows, "example_id": torch.arange(len(rows)), "epoch": torch.full((len(rows),), epoch)}


@pytest.mark.parametrize("name", NAMES)
def test_the_masked_fraction_follows_the_schedule(name):
    n, rows = 40, 4000
    model = wrapped(rotary(length=n), schedule=name, no_replace_prob=0.0, random_token_prob=0.0)
    hidden = model.hide(torch.randint(0, V, (rows, n)))
    counts = (hidden["input_ids"] == MASK_ID).sum(-1)
    assert counts.min() >= 1
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    expected = torch.ceil(as_schedule(name).rate(grid) * n * (1 - 2**-48)).clamp(min=1)
    error = (counts.double().mean() - expected.mean()) / (expected.std() / math.sqrt(rows))
    assert abs(error) < 4, f"{counts.double().mean()} for {expected.mean()}"
    torch.testing.assert_close(hidden["p_mask"], (counts / n).float()[:, None].expand(rows, n))


def test_the_stated_fractions_of_chosen_tokens_stay_or_become_random():
    n, rows = 50, 4000
    model = wrapped(rotary(length=n))
    clean = torch.randint(0, V, (rows, n))
    hidden = model.hide(clean)
    noisy, chosen = hidden["input_ids"], hidden["noise_mask"]
    assert torch.equal(noisy[~chosen], clean[~chosen]) and torch.equal(hidden["target_ids"], clean)
    total = chosen.sum().item()
    other = chosen & (noisy != MASK_ID) & (noisy != clean)
    shares = {
        "masked": ((noisy == MASK_ID) & chosen, 0.75),
        "changed": (other, 0.1 * (V - 1) / V),
        "kept": (chosen & (noisy == clean), 0.15 + 0.1 / V),
    }
    for name, (which, p) in shares.items():
        assert abs(which.sum().item() / total - p) < 4 * math.sqrt(p * (1 - p) / total), name


def test_the_times_of_a_batch_are_spread_evenly():
    model = wrapped(rotary(length=64), no_replace_prob=0.0, random_token_prob=0.0)
    counts = (model.hide(torch.randint(0, V, (64, 64)))["input_ids"] == MASK_ID).sum(-1).sort().values
    assert (counts - torch.arange(1, 65)).abs().max() <= 1


@pytest.mark.parametrize("name", [*NAMES, "function"])
def test_weights_are_positive_and_approach_the_derivative_of_the_schedule(name):
    schedule = as_schedule((lambda t: t**1.5) if name == "function" else name)
    n = 4000
    k = torch.arange(1, n + 1, dtype=torch.float64)
    weights = FixedCountTime(schedule, n).weight_at_rate(k / n)
    assert (weights > 0).all()
    inner = slice(n // 10, -n // 10)
    middle = (k - 0.5) / n
    torch.testing.assert_close(
        weights[inner], (schedule.drate(schedule.inverse(middle)) / (k / n))[inner], rtol=2e-3, atol=0
    )
    if name == "linear":
        torch.testing.assert_close(weights, n / k, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_weight_of_a_count_equals_the_bounds(name, n):
    """The expected weight of a count over times is 1/k, which makes the loss the subset sum of the likelihood bound."""
    schedule = SCHEDULES[name]
    times = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    counts = torch.ceil(schedule.rate(times) * n * (1 - 2**-48)).clamp(1, n)
    weights = FixedCountTime(schedule, n).weight_at_rate(counts / n)
    for k in counts.unique().tolist():
        mean = (weights * (counts == k)).mean().item()
        assert mean == pytest.approx(1 / k, rel=2e-3), (k, mean)


@pytest.mark.parametrize("name", NAMES)
def test_a_uniform_network_scores_ln_v_under_every_schedule(name):
    model = wrapped(schedule=name, no_replace_prob=0.0, random_token_prob=0.0)
    for parameter in model.net.head.parameters():
        parameter.data.zero_()
    for simple in (True, False):
        model.objective = wrapped(schedule=name, use_simple_mdlm_loss_weight=simple).objective
        losses = [float(model(toy(512)).loss.detach()) for _ in range(8)]
        expected = math.log(V + 1)
        error = torch.tensor(losses).std().item() / math.sqrt(8)
        assert abs(sum(losses) / 8 - expected) < 5 * error + 1e-4, (simple, losses)


OPTIONS = {
    "default": {},
    "nothing kept": {"no_replace_prob": 0.0, "random_token_prob": 0.0},
    "mean over hidden": {"use_simple_mdlm_loss_weight": False},
    "self-conditioned": {"self_cond": True},
    "self-critic": {"self_token_critic": True},
    "all": {"self_cond": True, "self_token_critic": True, "can_mask_prev_unmasked": True, "layout": (2, 3)},
    **{f"schedule {name}": {"schedule": name} for name in NAMES[1:]},
    "a function": {"schedule": lambda t: t**1.5},
}


IN_THE_FAST_SUITE = ("default", "all", "schedule cosine")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(o, id=name, marks=[] if name in IN_THE_FAST_SUITE else [pytest.mark.slow])
        for name, o in OPTIONS.items()
    ],
)
def test_a_hundred_steps_lower_the_cross_entropy(options):
    torch.manual_seed(0)
    model = wrapped(**options)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    @torch.no_grad()
    def cross_entropy() -> float:
        """Return the unweighted cross-entropy at mask rate one half, with the same masks before and after."""
        rows = toy(128, seed=9)
        hidden = torch.rand(rows.shape, generator=torch.Generator().manual_seed(1)) < 0.5
        batch = {
            "input_ids": rows.masked_fill(hidden, MASK_ID),
            "target_ids": rows,
            "noise_mask": hidden,
            "p_mask": hidden * 0.5,
        }
        return float(model.score(batch).nll.mean())

    before, first = cross_entropy(), None
    for step in range(100):
        losses = model(toy(32, seed=step))
        assert losses.loss > 0 and losses.generator_loss > 0
        first = first or float(losses.generator_loss.detach())
        losses.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert cross_entropy() < before - 0.2
    assert float(model(toy(256, seed=200)).generator_loss.detach()) < first


def test_losses_unpack_and_backpropagate():
    model = wrapped(self_token_critic=True)
    losses = model(toy())
    loss, generator, critic = losses
    assert losses.loss is loss and torch.isclose(loss, generator + critic) and losses[2] is critic
    losses.backward()
    assert all(p.grad is not None for p in model.net.head.parameters())
    assert wrapped()(toy()).critic_loss is None


def test_the_noise_of_a_row_is_keyed_by_its_identity():
    rows = toy(12)
    model = wrapped(self_cond=True, self_token_critic=True)
    batch = identified(rows)
    torch.manual_seed(1)
    whole = model.hide(batch)
    torch.manual_seed(2)
    part = model.hide({k: v[[7, 3]] for k, v in batch.items()})
    assert torch.equal(whole["input_ids"][[7, 3]], part["input_ids"])
    assert not torch.equal(model.hide(identified(rows, epoch=1))["input_ids"], whole["input_ids"])
    assert not torch.equal(wrapped(seed=1).hide(batch)["input_ids"], whole["input_ids"])
    first = [x.item() for x in model(batch)]
    torch.manual_seed(3)
    assert first == [x.item() for x in model(batch)], "coins and guesses too"


def test_rows_without_identity_follow_the_global_seed_and_python_s_is_not_read():
    import random

    model = wrapped(self_cond=True, self_token_critic=True)
    found = []
    for torch_seed, python_seed in ((5, 0), (5, 1), (6, 1)):
        torch.manual_seed(torch_seed)
        random.seed(python_seed)
        found.append([x.item() for x in model(toy())])
    assert found[0] == found[1] != found[2]


def test_the_masked_positions_alone_are_projected_and_give_the_dense_loss():
    model = wrapped()
    batch = model.hide(identified(toy()))
    loss = model(batch).loss
    logits = model.net(batch["input_ids"])
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["target_ids"], reduction="none")
    by_hand = (nll * batch["noise_mask"] / batch["p_mask"]).sum() / batch["target_ids"].numel()
    torch.testing.assert_close(loss, by_hand)


def test_datasets_feed_it():
    data = torch.arange(200) % V
    dataset = MaskedTokenDataset(data, L, mask_id=MASK_ID, identified=True)
    (batch,) = [b for i, b in enumerate(torch.utils.data.DataLoader(dataset, batch_size=8)) if i == 0]
    assert wrapped()(batch).loss > 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((2, L), MASK_ID), "which is mask_id"),
        (torch.full((2, L), V + 1), "ids are 0 to"),
        (torch.full((2, L), -1), "token id -1"),
        (torch.zeros(2, L + 1, dtype=torch.int64), "rows of exactly max_seq_len tokens"),
        (torch.zeros(L, dtype=torch.int64), r"one row is row\[None\]"),
        (torch.rand(2, L), "int64"),
    ],
)
def test_invalid_rows_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        wrapped()(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_id": V + 1}, "outside the network's vocabulary"),
        ({"no_replace_prob": 0.6, "random_token_prob": 0.5}, "sum to less than 1"),
        ({"schedule": "sinus"}, "no schedule"),
        ({"schedule": lambda t: 0.5 + 0.5 * torch.sin(9 * t)}, "fraction masked at time t"),
        ({"schedule": lambda t: 0.2 + 0.8 * t}, "use_simple_mdlm_loss_weight=False"),
        ({"schedule": lambda t: 2 * t, "use_simple_mdlm_loss_weight": False}, "between 0 and 1"),
        ({"schedule": lambda t: 0.15}, "has slope 0"),
        ({"schedule": 0.15}, "has slope 0"),
        ({"schedule": 1.5, "use_simple_mdlm_loss_weight": False}, "not a fraction of the tokens"),
        ({"schedule": lambda t: math.cos(t)}, "Write it with torch"),
        ({"token_critic": x_wrapper, "self_token_critic": True}, "Choose one"),
        ({"steps": 0}, "at least 1"),
        ({"self_cond_train_prob": 1.5}, "must be at least 1"),
        ({"layout": (2, 2), "max_seq_len": 6}, "4 cells"),
        ({"layout": (3, 3)}, "exceed the network's max_length=6"),
        ({"layout": (0, 3)}, "has none"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NonAutoregressiveWrapper(rotary(), **{"mask_id": MASK_ID, **options})
