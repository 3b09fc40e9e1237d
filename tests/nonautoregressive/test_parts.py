"""Self-conditioning, critics and grid positions."""

import copy
import itertools
import math
import warnings

import pytest
import torch
from torch import nn

from tests.naive.decoding import chi_square
from tests.nonautoregressive.networks import MASK_ID, L, V, rotary, toy, x_wrapper
from unmask import NonAutoregressiveWrapper
from unmask.decode.block_schedule import SingleBlock
from unmask.decode.forwards.self_conditioned import ConditionedForward
from unmask.models.adapters import PlainNetwork
from unmask.nonautoregressive.conditioning import Conditioning
from unmask.nonautoregressive.masking import earlier
from unmask.nonautoregressive.wrapper_loss import WrapperObjective
from unmask.randomness import row_keys


def wrapped(net=None, **options) -> NonAutoregressiveWrapper:
    return NonAutoregressiveWrapper(rotary() if net is None else net, mask_id=MASK_ID, **options)


class Recorder(nn.Module):
    """A critic that records its input."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(0.3))
        self.seen: list[torch.Tensor] = []

    def forward(self, ids):
        self.seen.append(ids)
        return self.logit * (1 + ids.float() / 10)


@pytest.mark.parametrize("temperature", [None, 0.01, 5.0])
def test_the_critic_learns_from_the_placed_tokens(temperature):
    critic = Recorder()
    model = wrapped(token_critic=critic, no_replace_prob=0.0, random_token_prob=0.0, special_ids=(2,))
    rows = torch.where(toy(200) == 2, 3, toy(200))
    batch = model.hide(rows)
    losses = model(batch, generator_sample_temperature=temperature)
    (placed,) = critic.seen
    hidden = batch["noise_mask"]
    assert torch.equal(placed[~hidden], rows[~hidden]), "what is visible is what was there, and so is right"
    assert not torch.isin(placed, torch.tensor([MASK_ID, 2])).any()
    wrong = (placed != rows).float()
    assert 0 < wrong.mean() < 1
    by_hand = nn.functional.binary_cross_entropy_with_logits(critic.logit * (1 + placed.float() / 10), wrong)
    torch.testing.assert_close(losses.critic_loss, by_hand)


def test_samples_follow_the_temperature():
    def surest(temperature):
        critic = Recorder()
        model = wrapped(token_critic=critic)
        torch.manual_seed(0)
        batch = model.hide(toy(100))
        model(batch, generator_sample_temperature=temperature)
        logits = model.net(batch["input_ids"])[..., :V]
        return (critic.seen[0] == logits.argmax(-1))[batch["noise_mask"]].double().mean()

    assert surest(1e-3) > 0.95 and surest(50.0) < 0.3


def test_a_critic_learns_to_tell_wrong_from_right():
    torch.manual_seed(0)
    model = wrapped(self_token_critic=True, critic_loss_weight=2.0)
    losses = model(toy())
    torch.testing.assert_close(losses.loss, losses.generator_loss + 2.0 * losses.critic_loss)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        model(toy(64, seed=step)).backward()
        optimiser.step()
        optimiser.zero_grad()
    rows = toy(200, seed=1000)
    spoilt = rows.clone()
    spoilt[:, 2] = (spoilt[:, 2] + 3) % V
    with torch.no_grad():
        wrong = model.critic(spoilt)
    others = torch.arange(L) != 2
    assert (wrong[:, 2:3] > wrong[:, others]).double().mean() > 0.9


def test_a_self_critic_shares_the_network():
    model = wrapped(self_token_critic=True)
    names = [name for name in model.state_dict() if "critic" in name]
    assert names == ["token_critic.wrong.weight", "token_critic.wrong.bias"]
    own = wrapped(token_critic=rotary(seed=1), layout=(2, 3))
    assert any(name.startswith("token_critic.blocks") for name in own.state_dict())
    assert {"critic_output.wrong.weight", "critic_output.places.row.weight"} <= set(own.state_dict())


def test_wrapping_does_not_change_a_trained_network():
    """The projection of self-conditioning starts at zero."""
    net = rotary()
    plain, conditioned = wrapped(net), wrapped(net, self_cond=True)
    torch.manual_seed(0)
    batch = plain.hide(toy())
    torch.testing.assert_close(plain(batch).loss, conditioned(batch).loss)
    assert torch.equal(plain.generate(4, seed=0), conditioned.generate(4, seed=0))


def moved(**options) -> NonAutoregressiveWrapper:
    """Return a wrapper whose conditioning has an effect."""
    model = wrapped(self_cond=True, **options)
    torch.manual_seed(1)
    nn.init.normal_(model.conditioning.project.weight, std=0.5)
    nn.init.normal_(model.conditioning.null)
    return model


def test_the_stated_fraction_of_rows_is_conditioned_without_gradient():
    model = moved(self_cond_train_prob=0.75, no_replace_prob=0.0, random_token_prob=0.0)
    calls = []
    inner = model.net.hidden_states
    model.net.hidden_states = lambda ids, *a, **k: calls.append((ids, torch.is_grad_enabled())) or inner(ids, *a, **k)
    rows = 4000
    model(toy(rows))
    (first, graded), (second, graded_second) = calls
    shown = (second != MASK_ID).any(-1)
    assert not graded and graded_second and len(second) == rows and (~shown).sum() > 0
    assert abs(len(first) / shown.sum() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / rows)
    for p, expected in ((0.0, 1), (1.0, 2)):
        calls.clear()
        model.self_cond_train_prob = p
        model(toy(8))
        assert len(calls) == expected and len(calls[-1][0]) == 8
    assert len(calls[0][0]) == (calls[1][0] != MASK_ID).any(-1).sum(), "a row hidden whole has no evaluation before it"


def test_conditioned_rows_receive_states_of_a_more_masked_row():
    model = moved(self_cond_train_prob=0.5).eval()
    batch = model.hide({"input_ids": toy(40), "example_id": torch.arange(40)})
    asked = []
    inner = model.net.hidden_states
    model.net.hidden_states = lambda ids, *a, **k: asked.append(ids) or inner(ids, *a, **k)
    added, ids = model.conditioned(batch).added, batch["input_ids"]
    nothing = model.conditioning(None, (40, L))
    is_nothing = torch.isclose(added, nothing, atol=1e-5).flatten(1).all(-1)
    assert 8 < is_nothing.sum() < 32 and len(asked[0]) == (~is_nothing).sum()
    before, now = asked[0], ids[~is_nothing]
    assert ((before == now) | (before == MASK_ID)).all() and (before != now).any(-1).all(), (
        "the same rows, each with more of it hidden"
    )
    first = inner(before, sum_embeds=nothing[~is_nothing])
    torch.testing.assert_close(added[~is_nothing], model.conditioning(first, tuple(before.shape)))


def test_the_number_of_further_masks_is_uniform():
    shown = 5
    ids = torch.arange(L + 3).expand(20_000, -1).clone()
    ids[:, shown:] = MASK_ID
    keys = row_keys(0, 0, torch.arange(len(ids)))
    before = earlier(ids, MASK_ID, keys)
    more = (before[:, :shown] == MASK_ID).sum(-1)
    assert (before[:, shown:] == MASK_ID).all() and ((before == ids) | (before == MASK_ID)).all()
    assert chi_square(torch.bincount(more, minlength=shown + 1)[1:], torch.full((shown,), 1 / shown)) < 4
    which = ((before[:, :shown] == MASK_ID) << torch.arange(shown)).sum(-1)[more == 2]
    pairs = torch.bincount(which, minlength=32)
    assert chi_square(pairs[pairs > 0], torch.full((10,), 0.1)) < 4
    assert torch.equal(earlier(ids[5:9], MASK_ID, keys[5:9]), before[5:9])
    whole = torch.full((3, L), MASK_ID)
    assert torch.equal(earlier(whole, MASK_ID, keys[:3]), whole)


def test_generation_passes_hidden_states_to_the_next_forward_pass():
    model = moved(steps=3)
    calls = []
    inner = model.net.hidden_states

    def spy(ids, *positional, sum_embeds, **named):
        hidden = inner(ids, *positional, sum_embeds=sum_embeds, **named)
        calls.append((sum_embeds, hidden))
        return hidden

    model.net.hidden_states = spy
    conditioned = model.generate(5, seed=0)
    assert len(calls) == 3
    with torch.inference_mode():
        torch.testing.assert_close(calls[0][0], model.conditioning(None, (5, L)))
        for before, after in itertools.pairwise(calls):
            torch.testing.assert_close(after[0], model.conditioning(before[1], (5, L)))
    assert not torch.equal(conditioned, wrapped().generate(5, seed=0))


def test_a_grid_distinguishes_cells_that_relative_positions_do_not():
    empty = torch.full((1, L), MASK_ID)
    flat, grid = wrapped(), wrapped(layout=(2, 3))
    alike = flat.net(empty)
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike), msg="every cell of an empty canvas looks the same")
    nn.init.normal_(grid.conditioning.row.weight)
    nn.init.normal_(grid.conditioning.column.weight)
    cells = grid.conditioning(None, (1, L))[0].view(2, 3, -1)
    torch.testing.assert_close(cells[1, 2] - cells[0, 2], cells[1, 0] - cells[0, 0])
    hidden = grid.net.hidden_states(empty, sum_embeds=grid.conditioning(None, (1, L)))[0]
    assert (hidden[:, None] - hidden[None]).abs().amax(-1)[~torch.eye(L, dtype=torch.bool)].min() > 1e-3


def test_networks_without_an_input_for_embeddings_are_refused():
    class Table(nn.Module):
        num_tokens, max_seq_len = V + 1, L

        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(L, V + 1))

        def forward(self, ids):
            return self.logits.expand(len(ids), -1, -1)

    assert isinstance(wrapped(Table()).net, PlainNetwork)
    wrapped(Table())(toy()).backward()
    for option in ({"self_cond": True}, {"layout": (2, 3)}, {"self_token_critic": True}):
        with pytest.raises(ValueError, match=r"no input for it|shows none"):
            wrapped(Table(), **option)


def test_a_causal_network_is_trained_and_generates_with_one_warning():
    import x_transformers

    causal = x_transformers.Decoder(dim=16, depth=1, heads=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = wrapped(x_transformers.TransformerWrapper(num_tokens=V + 1, max_seq_len=L, attn_layers=causal))
        for _ in range(2):
            model(toy()).backward()
        assert (model.generate(2, seed=0) != MASK_ID).all()
    assert len([c for c in caught if "causal" in str(c.message)]) == 1


@pytest.mark.parametrize("kind", ["module", "x-transformers", "network", "self"])
def test_a_given_critic_is_kept_with_one_name_in_the_state(kind):
    makers = {"module": Recorder, "x-transformers": lambda: x_wrapper(logits_dim=1), "network": lambda: rotary(seed=1)}
    given = makers[kind]() if kind in makers else None
    options = {"self_token_critic": True} if given is None else {"token_critic": given}
    model = wrapped(**options, layout=(2, 3))
    assert wrapped().token_critic is None and wrapped().critic is None
    state = model.state_dict()
    if given is not None:
        assert model.token_critic is given
        assert {name for name in state if name.startswith("token_critic.")} == {
            f"token_critic.{name}" for name in given.state_dict()
        }
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    model(toy()).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "critic" in name and "wrong" in name)
    twin = copy.deepcopy(model)
    twin.load_state_dict(state)
    assert twin.critic is not model.critic and torch.equal(twin.critic(toy()), model.critic(toy()))
    moved = copy.deepcopy(model).to(torch.float64)
    assert all(tensor.dtype == torch.float64 for tensor in moved.state_dict().values() if tensor.is_floating_point())
    assert kind == "module" or moved.critic(toy()).dtype == torch.float64


def test_x_transformers_is_conditioned_at_the_width_of_its_embeddings():
    model = wrapped(x_wrapper(emb_dim=24), self_cond=True, self_token_critic=True, layout=(2, 3))
    assert model.conditioning.project.weight.shape == (24, 32)
    model(toy()).backward()
    assert model.generate(2, seed=0).shape == (2, L)


@pytest.mark.parametrize("family", ["Bert", "Electra"])
def test_hugging_face_models_are_trained_and_generate(family):
    import transformers

    sizes = {
        "vocab_size": V + 1,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": L,
    }
    more = {"embedding_size": 12} if family == "Electra" else {}
    torch.manual_seed(0)
    net = getattr(transformers, f"{family}ForMaskedLM")(
        getattr(transformers, f"{family}Config")(**sizes, **more, pad_token_id=None)
    )
    model = wrapped(net, self_cond=True, self_token_critic=True, layout=(2, 3))
    model(toy()).backward()
    assert net.get_input_embeddings().weight.grad.abs().sum() > 0
    rows = model.generate(3, seed=0)
    assert rows.shape == (3, L) and (rows != MASK_ID).all()


def test_what_is_generated_may_be_trained_on():
    model = wrapped()
    loss = model(model.generate(4, seed=0)).loss
    loss.backward()
    assert 0 < float(loss.detach()) < 2 * math.log(V)


def test_without_self_conditioning_the_addition_is_constant():
    conditioning = Conditioning(rotary(), False, None)
    assert not conditioning.active and conditioning(None, (2, L)) is None
    assert ConditionedForward(conditioning, False).start(2, SingleBlock()).memory is None


def test_the_objective_equals_the_wrapper_s_loss():
    model = wrapped(self_token_critic=True, critic_loss_weight=0.5)
    batch = {
        "input_ids": toy(16),
        "example_id": torch.arange(16),
        "epoch": torch.zeros(16, dtype=torch.int64),
        "epoch_place": torch.arange(16),
    }
    objective = WrapperObjective()
    parts = objective(batch, model)
    losses = model(batch)
    torch.testing.assert_close(parts["numerator"] / parts["denominator"], losses.loss)
    torch.testing.assert_close(parts["loss"], losses.loss)
    hidden = model.hide(batch)
    torch.testing.assert_close(objective.combine(hidden, objective.score(hidden, model))["loss"], losses.generator_loss)
