"""Laws of attention over noisy and clean rows ``[x_t | x_0]`` (block diffusion)."""

from __future__ import annotations

import pytest
import torch

from unmask.contracts import SpecialIds
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn import clean_prefix
from unmask.nn.attention import DensePlan
from unmask.ops.segments import positions_from_segments
from unmask.training.loss import MLMLoss

VOCAB, LENGTH = 12, 11
SPECIAL = SpecialIds(mask=0, vocab_size=VOCAB)


def network(block: int | None, layers: int = 2, **options: object) -> RotaryTransformerMLMModel:
    torch.manual_seed(0)
    sizes = {"rotary_emb_dim": 4, "dropout": 0.0, "mask_idx": 0, "padding_idx": None, "causal_block": block}
    net = RotaryTransformerMLMModel(VOCAB, 16, layers, 2, **{**sizes, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    return net


def rows(batch: int = 3, length: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(1, VOCAB, (batch, length), generator=generator)
    noisy = clean.masked_fill(torch.rand(batch, length, generator=generator) < 0.6, 0)
    return noisy, clean


def by_blocks(net: RotaryTransformerMLMModel, noisy: torch.Tensor, clean: torch.Tensor, block: int) -> torch.Tensor:
    """Return the logits block by block: the definition, one forward pass of ``[x_0 before b, x_t of b]`` per block."""
    parts = []
    for start in range(0, noisy.shape[1], block):
        row = torch.cat([clean[:, :start], noisy[:, start : start + block]], 1)
        parts.append(net(row)[:, start:])
    return torch.cat(parts, 1)


@pytest.mark.parametrize("chunk", [2, 64])
@pytest.mark.parametrize("block", [1, 3, 4, LENGTH, 20])
def test_one_pass_equals_one_pass_per_block(block: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_prefix, "CHUNK", chunk)
    net, (noisy, clean) = network(block), rows()
    torch.testing.assert_close(net(noisy, x_0=clean), by_blocks(net, noisy, clean, block), atol=1e-5, rtol=1e-4)


def test_a_block_of_the_whole_row_is_masked_diffusion() -> None:
    net, (noisy, clean) = network(LENGTH), rows()
    torch.testing.assert_close(net(noisy, x_0=clean), network(None)(noisy), atol=1e-5, rtol=1e-4)


def test_a_block_ignores_its_clean_tokens_later_ones_and_other_noisy_blocks() -> None:
    block, own = 4, slice(4, 8)
    net, (noisy, clean) = network(block), rows()
    logits = net(noisy, x_0=clean)
    moved_clean, moved_noisy = clean.clone(), noisy.clone()
    moved_clean[:, own.start :] = 1 + moved_clean[:, own.start :] % (VOCAB - 1)
    moved_noisy[:, : own.start] = 1 + moved_noisy[:, : own.start] % (VOCAB - 1)
    moved_noisy[:, own.stop :] = 1 + moved_noisy[:, own.stop :] % (VOCAB - 1)
    torch.testing.assert_close(net(moved_noisy, x_0=moved_clean)[:, own], logits[:, own])
    moved_clean[:, 0] = 1 + moved_clean[:, 0] % (VOCAB - 1)
    assert not torch.allclose(net(noisy, x_0=moved_clean)[:, own], logits[:, own])


@pytest.mark.parametrize("kind", ["dense", "flex"])
@pytest.mark.parametrize("padding", [None, "left", "right", "packed"])
def test_plans_agree_in_value_and_gradient(padding: str | None, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = 3
    net, (noisy, clean) = network(block), rows()
    inputs: dict[str, torch.Tensor] = {"x_0": clean}
    real = torch.ones_like(noisy, dtype=torch.bool)
    if padding == "packed":
        inputs["segment_ids"] = torch.tensor([[0] * 5 + [1] * 4 + [2] * 2, [0] * 11, [0] * 1 + [1] * 10])
        real[0, -2:] = False
    elif padding is not None:
        real[1, :4] = False
        real[2, :1] = False
        real = real if padding == "left" else real.flip(1)
    if padding is not None:
        inputs["attention_mask"] = real
    index = (real & (noisy == 0)).flatten().nonzero()[:, 0].flip(0)

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        net.zero_grad()
        states = net.hidden_states_where(noisy, index, **inputs)
        (states.square().sum() + net(noisy, **inputs)[real].square().sum() * 1e-2).backward()
        return states.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]

    fast, gradients = run()
    calls = []

    def naive(positions, block, attention_mask, segment_ids, use_flex, drops):
        calls.append(kind)
        batch, seq = positions.shape
        if kind == "flex":
            mask = clean_prefix.clean_prefix_block_mask(positions // block, attention_mask, segment_ids)
            return clean_prefix.FlexPlan(batch, 2 * seq, mask).dense(), None
        mask = clean_prefix.clean_prefix_mask(positions // block, attention_mask, segment_ids)
        return DensePlan(batch, 2 * seq, mask[:, None]), None

    monkeypatch.setattr("unmask.models.rotary_mlm.plan_clean_prefix", naive)
    slow, slow_gradients = run()
    assert calls
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients, slow_gradients, atol=1e-3, rtol=1e-3)


def test_packed_documents_equal_rows_of_their_own() -> None:
    net, (noisy, clean) = network(3), rows(1)
    segments = torch.tensor([[0] * 4 + [1] * 7])
    packed = net(noisy, x_0=clean, segment_ids=segments)
    for part in (slice(0, 4), slice(4, 11)):
        torch.testing.assert_close(packed[:, part], net(noisy[:, part], x_0=clean[:, part]), atol=1e-5, rtol=1e-4)
    assert positions_from_segments(segments)[0, 4] == 0


def test_positions_of_their_own_use_a_mask() -> None:
    net, (noisy, clean) = network(3), rows()
    moved = torch.arange(1, LENGTH + 1).expand(noisy.shape)
    plan, index = clean_prefix.plan_clean_prefix(moved, 3)
    assert isinstance(plan, DensePlan) and index is None
    long_noisy, long_clean = (torch.cat([x[:, :1], x], 1) for x in (noisy, clean))
    segments = torch.ones_like(long_noisy)
    segments[:, 0] = 0  # the extra first token is out of sight
    expected = net(long_noisy, x_0=long_clean, segment_ids=segments, positions=torch.arange(LENGTH + 1).expand(3, -1))
    torch.testing.assert_close(net(noisy, x_0=clean, positions=moved), expected[:, 1:], atol=1e-5, rtol=1e-4)


def test_the_loss_equals_the_loop_over_blocks_in_value_and_gradient() -> None:
    block = 4
    net, (noisy, clean) = network(block), rows()
    masked, p = noisy == 0, torch.rand(3, 3).repeat_interleave(block, 1)[:, :LENGTH].clamp(min=0.2)
    batch = {"input_ids": noisy, "target_ids": clean, "noise_mask": masked, "p_mask": p, "x_0": clean}
    loss = MLMLoss(tokenizer=SPECIAL, weighting="inverse_p")(batch, net)["loss"]
    loss.backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    log_p = by_blocks(net, noisy, clean, block).log_softmax(-1).gather(-1, clean[..., None])[..., 0]
    naive = -(log_p / p)[masked].sum() / clean.numel()
    naive.backward()
    torch.testing.assert_close(loss, naive)
    torch.testing.assert_close(gradients, [parameter.grad for parameter in net.parameters()], atol=1e-5, rtol=1e-4)


def test_blocks_of_one_token_have_the_exact_likelihood_as_their_loss() -> None:
    net, (_, clean) = network(1), rows()
    every = torch.ones_like(clean, dtype=torch.bool)
    batch = {
        "input_ids": torch.zeros_like(clean),
        "target_ids": clean,
        "noise_mask": every,
        "p_mask": every.float(),
        "x_0": clean,
    }
    loss = MLMLoss(tokenizer=SPECIAL, weighting="inverse_p")(batch, net)["loss"]
    total = 0.0
    for i in range(LENGTH):
        row = torch.cat([clean[:, :i], torch.zeros(3, 1, dtype=torch.long)], 1)
        total -= net(row)[:, i].log_softmax(-1).gather(-1, clean[:, i : i + 1]).sum()
    torch.testing.assert_close(loss, total / clean.numel())


@pytest.mark.parametrize(
    ("options", "word"), [({"block": None}, "both ways"), ({"block": 1, "shift": True}, "autoregressive")]
)
def test_clean_rows_need_a_block_causal_network(options: dict, word: str) -> None:
    noisy, clean = rows()
    with pytest.raises(ValueError, match=word):
        network(**options)(noisy, x_0=clean)


def test_a_device_without_host_lengths_uses_the_dense_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    plan, index = clean_prefix.plan_clean_prefix(torch.arange(6).expand(2, 6), 3)
    assert isinstance(plan, DensePlan) and plan.mask is not None and index is None
    assert plan.mask.shape == (2, 1, 12, 12)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_dropout_and_activation_checkpoints_run(checkpointed: bool) -> None:
    net, (noisy, clean) = network(4, dropout=0.5), rows()
    net.run_block = type(net.run_block)(checkpoint_activations=checkpointed)
    net.hidden_states_where(noisy, torch.tensor([0, 5]), x_0=clean).sum().backward()
    assert net.embedding.weight.grad.isfinite().all()
