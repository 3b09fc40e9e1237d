"""An autoregressive network: its logits, loss, exact likelihood and decoding, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unmask.build.objective import build_collator, build_corruption, build_loss, check_attention, is_elbo
from unmask.collate.padded import DefaultMLMCollator
from unmask.config.tree import Config, explicit_values, load_config
from unmask.contracts import SpecialIds, is_autoregressive
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.evaluate.exact import exact_log_likelihood
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.metrics import masked_accuracy
from unmask.evaluate.noise_curve import noise_curve
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.evaluate.windows import Windows
from unmask.export.hub_weights import hub_sizes
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

SPECIAL = SpecialIds(mask=0, vocab_size=12, pad=1, eos=2)
DOCUMENTS = [[5, 6, 7, 8, 9, 5], [11, 3, 4], [6, 6, 10, 3, 5]]


def network(shift: bool = True, block: int | None = 1) -> RotaryTransformerMLMModel:
    torch.manual_seed(0)
    net = RotaryTransformerMLMModel(
        12, 16, 2, 2, padding_idx=None, mask_idx=0, rotary_emb_dim=4, dropout=0.0, causal_block=block, shift=shift
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.4)
    return net.eval()


def next_token_nats(ids: list[int]) -> list[float]:
    """Return each token's negative log-likelihood by a plain loop: one unshifted causal pass per token."""
    net, nats = network(shift=False), []
    for i, token in enumerate(ids):
        logits = net(torch.tensor([[SPECIAL.mask, *ids[:i]]]))[0, -1]
        nats.append(-float(logits.detach().log_softmax(-1)[token]))
    return nats


def objective(*overrides: str) -> Config:
    return load_config(None, ["objective.name=autoregressive", *overrides])


def batch_of(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    corruption = build_corruption(objective().objective, SPECIAL)
    collate = DefaultMLMCollator(SPECIAL, 16, corruption, add_bos=False, add_eos=False)
    return collate([{"input_ids": row, "example_id": i} for i, row in enumerate(rows)])


def test_a_token_and_all_later_ones_never_change_its_logits() -> None:
    net, ids = network(), torch.tensor(DOCUMENTS[:1])
    logits = net(ids)
    for i in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, i] = 3
        moved = (net(changed) - logits).abs().amax(-1)[0] > 0
        assert moved.tolist() == [False] * (i + 1) + [True] * (ids.shape[1] - i - 1)


def test_the_loss_is_the_sum_of_the_log_softmax_by_a_plain_loop() -> None:
    loss = build_loss(objective().objective, SPECIAL)
    batch = batch_of(DOCUMENTS)
    assert torch.equal(batch["input_ids"][batch["noise_mask"]], batch["target_ids"][batch["noise_mask"]])
    expected = sum(sum(next_token_nats(row)) for row in DOCUMENTS) / sum(map(len, DOCUMENTS))
    assert float(loss(batch, network())["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    assert is_elbo(objective().objective)


def test_packed_documents_and_left_padding_begin_with_the_mask_token() -> None:
    net = network()
    packed = torch.tensor([DOCUMENTS[0] + DOCUMENTS[1]])
    logits = net(packed, segment_ids=torch.tensor([[0] * 6 + [1] * 3]))
    torch.testing.assert_close(logits[:, 6:], net(packed[:, 6:]), atol=1e-5, rtol=1e-4)
    padded, real = torch.tensor([[1, 1, *DOCUMENTS[1]]]), torch.tensor([[False] * 2 + [True] * 3])
    torch.testing.assert_close(net(padded, real)[:, 2:], net(padded[:, 2:]), atol=1e-5, rtol=1e-4)


def test_evaluation_is_exact_in_one_pass_and_has_no_sampling_error() -> None:
    bound = nelbo(network(), Windows.of_rows(DOCUMENTS, 16), SPECIAL, samples=3)
    expected = [sum(next_token_nats(row)) for row in DOCUMENTS]
    np.testing.assert_allclose(bound.nats, [expected] * 3, rtol=1e-5)
    assert bound.tokens.tolist() == [6, 3, 5]
    scores = pseudo_log_likelihood(network(), DOCUMENTS, SPECIAL, form="sentence_l2r")
    np.testing.assert_allclose(np.concatenate(scores), -np.concatenate([next_token_nats(d) for d in DOCUMENTS]), 1e-4)
    accuracy = masked_accuracy(network(), Windows.of_rows(DOCUMENTS, 16), SPECIAL)
    assert accuracy.rate == 1.0 and 0.0 <= accuracy.top_1.value <= accuracy.top_5.value <= 1.0


@pytest.mark.parametrize(
    "estimate",
    [
        lambda net: exact_log_likelihood(net, DOCUMENTS[1], SPECIAL),
        lambda net: noise_curve(net, Windows.of_rows(DOCUMENTS, 16), SPECIAL),
        lambda net: pseudo_log_likelihood(net, DOCUMENTS, SPECIAL),
    ],
)
def test_masked_estimators_are_refused(estimate) -> None:
    with pytest.raises(ValueError, match="--bound"):
        estimate(network())


def decode(net: RotaryTransformerMLMModel, steps: int = 6, **options: object) -> list[list[int]]:
    canvas = Canvas.infill(torch.tensor([[5, 6, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]]), SPECIAL)
    rules = make_rules(steps, special=SPECIAL, **{"order": "left_to_right", **options})
    return fill_canvas(net, canvas, rules, special=SPECIAL, seed=4).ids.tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_exact_cache_decodes_the_same_tokens(temperature: float) -> None:
    plain = decode(network(), 8, temperature=temperature)
    assert plain == decode(network(), 8, temperature=temperature, cache="block", block_length=1)
    assert decode(network(), 8, temperature=0.0)[0][:2] == [5, 6]


def test_greedy_decoding_equals_a_plain_loop() -> None:
    net, ids = network(), [5, 6]
    banned = torch.tensor(SPECIAL.all)
    for _ in range(6):
        logits = net(torch.tensor([[*ids, 0]]))[0, -1].index_fill(0, banned, -torch.inf)
        ids.append(int(logits.argmax()))
    assert decode(net, 8, temperature=0.0)[0] == ids


def test_the_cache_runs_one_position_a_step() -> None:
    canvas = Canvas.infill(torch.tensor([[5, 6, 0, 0, 0, 0]]), SPECIAL)
    rules = make_rules(4, order="left_to_right", cache="block", block_length=1)
    decoded = fill_canvas(network(), canvas, rules, special=SPECIAL, seed=0)
    assert decoded.positions_computed == 3 + 1 + 1 + 1  # the prompt with the first blank, then one each


@pytest.mark.parametrize("options", [{"order": "random"}, {"steps": 2}, {"order": "top_prob", "remask": "cap"}])
def test_other_orders_and_several_tokens_a_step_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="left_to_right"):
        decode(network(), **{"steps": 8, **options})


def test_the_config_decides_the_attention_of_the_network() -> None:
    config = objective()
    assert (config.model.causal_block, config.model.shift) == (1, True)
    blocks = load_config(None, ["objective.name=block_diffusion", "objective.block_size=4"])
    assert (blocks.model.causal_block, blocks.model.shift) == (4, False)
    again = load_config(None, ["objective.block_size=8"], base=explicit_values(blocks))
    assert again.model.causal_block == 8
    older = load_config(None, ["objective.name=block_diffusion", "objective.clean_prefix=false"])
    assert older.model.causal_block is None and not build_corruption(older.objective, SPECIAL).clean_prefix


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.name=autoregressive", "model.causal_block=4"], "model.causal_block=1"),
        (["objective.name=block_diffusion", "model.causal_block=4"], "model.causal_block=16"),
        (["objective.name=diffusion", "model.shift=true"], "autoregressive"),
        (["objective.name=autoregressive", "objective.probability=0.5"], "masks none"),
        (["objective.name=diffusion", "objective.clean_prefix=true"], "objective.block_size"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(None, overrides)


def test_networks_of_another_attention_are_refused() -> None:
    with pytest.raises(ValueError, match="shift=True"):
        check_attention(objective().objective, network(shift=False))
    with pytest.raises(ValueError, match="clean_prefix=false"):
        check_attention(load_config(None, ["objective.name=block_diffusion"]).objective, network(False, None))
    with pytest.raises(ValueError, match="shift=False"):
        check_attention(Config().objective, network())
    with pytest.raises(ValueError, match="causal_block=1"):
        network(shift=True, block=4)
    with pytest.raises(ValueError, match="cannot be exported"):
        hub_sizes(network())
    assert is_autoregressive(network()) and not is_autoregressive(network(shift=False))


@pytest.mark.parametrize("name", ["block_diffusion", "diffusion"])
def test_the_collator_adds_clean_rows_where_the_objective_needs_them(name: str) -> None:
    config = load_config(None, [f"objective.name={name}", "data.block_size=8"])
    collate = build_collator(config, SPECIAL, seed=0)
    batch = collate([{"input_ids": [5, 6, 7, 2, 8, 9, 10, 2], "example_id": 0}])
    assert ("x_0" in batch) == (name == "block_diffusion")
    if "x_0" in batch:
        assert batch["x_0"].tolist() == [[5, 6, 7, 2, 8, 9, 10, 2]]
