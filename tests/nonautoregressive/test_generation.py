"""Generation: the schedule's plan, exact sampling, and the effect of each option."""

import pytest
import torch

from tests.naive.decoding import FIRST_WORD, MASK, chi_square
from tests.nonautoregressive.networks import MASK_ID, L, Oracle, V, grid_chain, rotary, toy, x_wrapper
from unmask import NonAutoregressiveWrapper, Trace
from unmask.decode.orders.scores import LeftToRight


class Steps(list):
    def update_history(self, step_results):
        self.append(step_results)


def wrapped(net=None, **options) -> NonAutoregressiveWrapper:
    return NonAutoregressiveWrapper(rotary() if net is None else net, mask_id=MASK_ID, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"self_cond": True}, {"self_token_critic": True}, {"can_mask_prev_unmasked": True}, {"schedule": "cosine"}, {"layout": (2, 3)},
     {"self_cond": True, "self_token_critic": True, "can_mask_prev_unmasked": True, "layout": (3, 2), "schedule": "cosine"}],
)  # fmt: skip
def test_rows_are_filled_with_ordinary_tokens(options):
    model = wrapped(special_ids=(0, 3), **options)
    model.net.head.projection.weight.data[[0, 3, MASK_ID]] += (
        5.0  # what a decoder that does not forbid them would place
    )
    rows = model.generate(16, seed=0)
    assert rows.shape == (16, L) and rows.dtype == torch.int64
    assert not torch.isin(rows, torch.tensor([0, 3, MASK_ID])).any() and (rows < V).all()
    assert model.generate(seed=0).shape == (L,)
    assert torch.equal(model.generate(16, seed=0), rows) and not torch.equal(model.generate(16, seed=1), rows)
    assert model.training, "as it was"


def test_a_row_is_the_same_in_any_batch():
    model = wrapped(self_cond=True, self_token_critic=True)
    torch.nn.init.normal_(model.conditioning.project.weight)  # or it would add nothing
    prompt = torch.full((9, L), MASK_ID)
    prompt[::2, :3] = 2
    whole = model.generate(prompt=prompt, seed=4)
    assert torch.equal(model.generate(prompt=prompt[:3], seed=4), whole[:3])


def test_a_prompt_is_kept_and_its_masks_are_filled():
    model = wrapped()
    prompt = torch.tensor([MASK_ID, 5, MASK_ID, 1, 1, MASK_ID])
    rows = model.generate(20, prompt=prompt, seed=0)
    assert rows.shape == (20, L) and (rows[:, [1, 3, 4]] == torch.tensor([5, 1, 1])).all() and (rows != MASK_ID).all()
    assert model.generate(prompt=prompt, seed=0).shape == (L,)
    with pytest.raises(ValueError, match="A prompt is ids"):
        model.generate(prompt=prompt[:4])
    with pytest.raises(ValueError, match="A prompt is ids"):
        model.generate(3, prompt=torch.stack([prompt, prompt]))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_schedule_sets_the_number_of_masked_tokens(name):
    n, steps = 60, 10
    trace = Trace()
    model = wrapped(rotary(length=n), schedule=name, steps=steps)
    model.generate(2, seed=0, observers=[trace])
    left = [(trace.replay(i + 1) == MASK_ID).sum(-1).tolist()[0] for i in range(trace.num_steps)]
    rate = model.schedule.rate(1 - torch.arange(1, steps + 1, dtype=torch.float64) / steps)
    assert len(left) == steps and left[-1] == 0
    assert max(abs(a - float(b) * n) for a, b in zip(left, rate, strict=True)) <= 1
    assert model.generate(2, steps=3, seed=0, observers=[trace]).shape == (2, n) and trace.num_steps == 3


def test_the_likeliest_samples_come_first():
    steps = Steps()
    wrapped().generate(50, seed=0, steps=3, observers=[steps])
    for step in steps:
        kept, confidence = step["committed"], step["confidence"]
        left = confidence.masked_fill(kept | ~step["candidates"], -1).amax(-1)
        assert (confidence.masked_fill(~kept, 2).amin(-1) >= left).all()


def test_filtering_keeps_the_stated_fraction_of_the_vocabulary():
    steps = Steps()
    model = wrapped(rotary(vocab=V))
    model.generate(200, filter_thres=0.7, start_temperature=100.0, seed=0, observers=[steps])
    ranks = [
        (s["log_probs"] > s["log_probs"].gather(-1, s["output_ids"][s["scored"]].clamp(max=V)[:, None])).sum(-1)[
            s["committed"][s["scored"]]
        ]
        for s in steps
    ]
    ranks = torch.cat(ranks)
    assert ranks.max() == 2, "ceil(0.3 * 9) tokens"
    loose = Steps()
    model.generate(200, filter_thres=None, start_temperature=100.0, seed=0, observers=[loose])
    assert torch.cat([s["output_ids"] for s in loose]).ne(torch.cat([s["output_ids"] for s in steps])).any()
    with pytest.raises(ValueError, match="fraction of the vocabulary"):
        model.generate(filter_thres=1.0)


def test_the_temperature_falls_to_zero():
    """Tokens approach the likeliest ones, up to the last step; without annealing they do not."""

    def greedy_share(annealed):
        steps, model = Steps(), wrapped()
        model.net.head.projection.weight.data *= 20
        model.generate(
            300,
            start_temperature=3.0,
            filter_thres=None,
            annealed=annealed,
            order="random",
            steps=6,
            seed=0,
            observers=[steps],
        )
        return [
            (s["log_probs"].argmax(-1) == s["output_ids"][s["scored"]])[s["committed"][s["scored"]]]
            .double()
            .mean()
            .item()
            for s in steps
        ]

    falling, level = greedy_share(True), greedy_share(False)
    assert falling[-1] == 1.0 and falling[0] < 0.8 and level[-1] < 0.8
    assert falling[4] > level[4] + 0.15 and falling[4] > falling[0] + 0.15
    assert wrapped().generate(50, start_temperature=0.0, order="random", seed=0).shape == (50, L)


def test_each_row_is_annealed_over_its_own_steps():
    """Rows with fewer masks have fewer steps, and their last token is greedy although other rows continue."""
    steps, model = Steps(), wrapped()
    prompt = torch.full((200, L), MASK_ID)
    prompt[::2, 2:] = 1
    model.generate(
        prompt=prompt, start_temperature=3.0, filter_thres=None, order="random", steps=L, seed=0, observers=[steps]
    )
    for step in steps:
        done = ~(step["output_ids"] == MASK_ID).any(-1)
        last = step["committed"] & done[:, None]
        assert torch.equal(step["log_probs"][last[step["scored"]]].argmax(-1), step["output_ids"][last])


def test_orders_by_name_by_grid_and_by_object():
    model = wrapped(layout=(2, 3))
    trace = Trace()
    for order, expected in (
        ("rows", [0, 1, 2, 3, 4, 5]),
        ("columns", [0, 3, 1, 4, 2, 5]),
        (LeftToRight(), [0, 1, 2, 3, 4, 5]),
    ):
        model.generate(order=order, steps=L, seed=0, observers=[trace])
        assert [e.position for e in trace.row_events(0)] == expected
    with pytest.raises(ValueError, match="There is no order 'spiral'"):
        model.generate(order="spiral")
    with pytest.raises(ValueError, match="layout"):
        wrapped().generate(order="columns")


def test_remasking_masks_the_least_confident_tokens():
    steps = Steps()
    wrapped(can_mask_prev_unmasked=True, schedule="cosine").generate(
        60, start_temperature=3.0, filter_thres=None, steps=6, seed=0, observers=steps_of(steps)
    )
    assert sum(int(s["hidden"].sum()) for s in steps) > 0
    plain = Steps()
    wrapped(schedule="cosine").generate(60, steps=6, seed=0, observers=steps_of(plain))
    assert sum(int(s["hidden"].sum()) for s in plain) == 0


def steps_of(steps):
    return [steps]


def oracle(**options) -> NonAutoregressiveWrapper:
    joint = grid_chain()
    return NonAutoregressiveWrapper(Oracle(joint), mask_id=MASK, special_ids=(1, 2), **options)


def frequencies(rows: torch.Tensor) -> torch.Tensor:
    places = 2 ** torch.arange(rows.shape[1] - 1, -1, -1)
    return torch.bincount(((rows - FIRST_WORD) * places).sum(-1), minlength=2 ** rows.shape[1])


EXACT = {"order": "random", "annealed": False, "filter_thres": None, "steps": 6}


def test_one_at_a_time_in_random_order_samples_are_exact():
    rows = oracle().generate(4000, seed=0, **EXACT)
    assert chi_square(frequencies(rows), grid_chain().flatten()) < 4


def test_a_prompt_conditions_the_distribution_exactly():
    joint = grid_chain()
    prompt = torch.full((6,), MASK)
    prompt[1], prompt[5] = FIRST_WORD + 1, FIRST_WORD
    rows = oracle().generate(3000, prompt=prompt, seed=0, **EXACT)
    conditional = torch.zeros_like(joint)
    conditional[:, 1, :, :, :, 0] = joint[:, 1, :, :, :, 0]
    assert chi_square(frequencies(rows), (conditional / conditional.sum()).flatten()) < 4


def test_all_at_once_the_distribution_differs():
    """The same test detects the error of unmasking everything in one step."""
    rows = oracle().generate(4000, seed=0, **{**EXACT, "steps": 1})
    assert chi_square(frequencies(rows), grid_chain().flatten()) > 20


def test_an_exact_critic_makes_samples_likelier():
    joint = grid_chain()

    class Judge(torch.nn.Module):
        """Return the logit that a token is wrong, given all others, from the true distribution."""

        def forward(self, ids):
            net, logits = Oracle(joint), []
            for at in range(ids.shape[1]):
                hidden = ids.clone()
                hidden[:, at] = MASK
                log_p = net(hidden)[:, at, FIRST_WORD:].log_softmax(-1).gather(-1, ids[:, at, None] - FIRST_WORD)
                logits.append(-torch.log(log_p.exp() / (1 - log_p.exp()).clamp(min=1e-6)))
            return torch.cat(logits, 1)

    def mean_log_p(model, **options):
        rows = model.generate(600, seed=0, start_temperature=1.0, annealed=False, filter_thres=None, steps=3, **options)
        return (frequencies(rows) * joint.flatten().log()).sum().item() / len(rows)

    plain = mean_log_p(oracle(), order="random")
    kept = mean_log_p(oracle(token_critic=Judge()), noise_level_scale=0.0)
    noisy = mean_log_p(oracle(token_critic=Judge()), noise_level_scale=50.0)
    assert kept > plain + 0.1 and kept > noisy + 0.05


def test_the_example_of_the_original_page_runs_as_written():
    pytest.importorskip("x_transformers")
    from x_transformers import Encoder, TransformerWrapper

    from unmask import NonAutoregressiveWrapper

    model = TransformerWrapper(num_tokens=256 + 1, max_seq_len=32, attn_layers=Encoder(dim=32, depth=1, heads=2))
    model = NonAutoregressiveWrapper(
        model, mask_id=256, steps=4, schedule="cosine", self_cond=True, self_token_critic=True
    )
    x = torch.randint(0, 256, (2, 32))
    loss = model(x).loss
    loss.backward()
    sampled = model.generate(batch_size=2)
    assert sampled.shape == (2, 32) and (sampled < 256).all()


@pytest.mark.parametrize("critic", ["x-transformers", "ours"])
def test_separate_critics_are_trained_and_used(critic):
    net = x_wrapper(logits_dim=1, seed=3) if critic == "x-transformers" else rotary(seed=3)
    model = wrapped(x_wrapper(), token_critic=net)
    model(toy(), only_train_critic=True).backward()
    assert all(p.grad is None for p in model.net.parameters()), "the generator is left as it is"
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert model(toy(), only_train_generator=True).critic_loss is None
    assert model.generate(4, seed=0).shape == (4, L)
    with pytest.raises(ValueError, match="one logit per token"):
        wrapped(token_critic=x_wrapper())(toy())
    with pytest.raises(ValueError, match="needs a critic"):
        wrapped()(toy(), only_train_critic=True)
