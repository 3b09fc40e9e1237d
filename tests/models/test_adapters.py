"""Networks of other houses: the same logits through ``hidden_states`` and ``logits_at``, and one warning for causal ones."""

import random
import threading
import warnings

import pytest
import torch
from torch import nn

from unmask.models.adapters import PlainNetwork, XTransformerMLM, as_network
from unmask.models.hf import HuggingFaceMLM
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

x_transformers = pytest.importorskip("x_transformers")


def wrapper(layers="Encoder", **options):
    torch.manual_seed(0)
    return x_transformers.TransformerWrapper(
        num_tokens=20, max_seq_len=8, attn_layers=getattr(x_transformers, layers)(dim=16, depth=2, heads=2), **options
    ).eval()


@pytest.mark.parametrize("options", [{}, {"tie_embedding": True}, {"emb_dim": 12}, {"num_memory_tokens": 2}])
def test_a_transformer_wrapper_computes_logits_only_where_read(options):
    net = wrapper(**options)
    ours = as_network(net)
    assert isinstance(ours, XTransformerMLM)
    ids, where = torch.randint(0, 20, (3, 8)), torch.rand(3, 8) < 0.5
    torch.testing.assert_close(ours(ids), net(ids))
    torch.testing.assert_close(ours.logits_at(ours.hidden_states(ids), where), net(ids)[where])


def test_embeddings_are_added_to_in_every_network():
    ids = torch.randint(2, 20, (3, 8))
    from transformers import BertConfig, BertForMaskedLM

    bert = BertForMaskedLM(
        BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    ).eval()
    nets = [wrapper(), RotaryTransformerMLMModel(20, 16, 2, 2).eval(), bert]
    for net in map(as_network, nets):
        plain = net.hidden_states(ids)
        torch.testing.assert_close(net.hidden_states(ids, sum_embeds=torch.zeros(3, 8, 16)), plain)
        moved = net.hidden_states(ids, sum_embeds=torch.randn(3, 8, 16))
        assert (moved - plain).abs().max() > 1e-3
    rotary = as_network(nets[1])
    real = torch.arange(8).expand(3, 8) < 5  # with padding dropped, the embeddings go with their tokens
    added = torch.randn(3, 8, 16)
    short = rotary.hidden_states(ids[:, :5], sum_embeds=added[:, :5])
    torch.testing.assert_close(rotary.hidden_states(ids, real, sum_embeds=added)[:, :5], short, atol=1e-5, rtol=1e-4)


class Mixing(nn.Module):
    """Every token takes in the mean of its row: padding that is run changes all logits."""

    num_tokens, max_seq_len = 20, 8

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 20)

    def forward(self, ids):
        x = self.embedding(ids)
        return x * torch.arange(1, ids.shape[1] + 1)[:, None] + x.mean(1, keepdim=True)


@pytest.mark.parametrize("net", [wrapper, Mixing])
def test_padding_and_packed_documents_are_taken_apart(net):
    ours = as_network(net())
    ids = torch.randint(0, 20, (3, 8))
    real = torch.zeros(3, 8, dtype=torch.bool)
    real[0, :5] = real[1, 3:] = real[2] = True
    alone = torch.cat([ours(row[mask][None])[0] for row, mask in zip(ids, real, strict=True)])
    torch.testing.assert_close(ours(ids, real)[real], alone)
    torch.testing.assert_close(ours.logits_at(ours.hidden_states(ids, real), real), alone)
    documents = (torch.arange(8) >= 3).long().expand(3, -1)
    torch.testing.assert_close(ours(ids, segment_ids=documents), torch.cat([ours(ids[:, :3]), ours(ids[:, 3:])], 1))
    torch.testing.assert_close(ours(ids, positions=torch.arange(8).expand(3, -1)), ours(ids))
    with pytest.raises(ValueError, match="counts positions itself"):
        ours(ids, positions=torch.arange(8).flip(0).expand(3, -1))


class Running(nn.Module):
    """Sums of what came before, or of all; it counts its calls, and draws and remembers as it runs."""

    num_tokens, max_seq_len = 20, 8

    def __init__(self, both_ways: bool):
        super().__init__()
        self.embedding, self.both_ways, self.calls = nn.Embedding(20, 20), both_ways, 0
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, ids):
        self.calls += 1
        self.seen += 1
        x = self.embedding(ids).cumsum(1) + 0 * torch.rand(1, device=ids.device) + 0 * random.random()
        return self.dropout(x + self.embedding(ids).flip(1).cumsum(1).flip(1) if self.both_ways else x)


@pytest.mark.parametrize("use", ["hidden_states", "__call__"])
def test_causal_networks_warn_once_at_their_first_use(use):
    ids = torch.arange(8)[None]
    for net in (wrapper("Decoder"), Running(False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ours = as_network(net)
            assert not caught
            for _ in range(2):
                getattr(ours, use)(ids)
        assert len(caught) == 1 and "sees only the tokens before it" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for net in (wrapper(), Running(True), Running(True).to("meta")):
            getattr(as_network(net), use)(ids.to(next(net.parameters()).device))


@pytest.mark.parametrize("training", [True, False])
def test_looking_for_causality_leaves_no_trace(training):
    net = Running(False).train(training)
    ours = as_network(net)
    assert isinstance(ours, PlainNetwork) and net.calls == 0 and net.seen == 0
    modes = []
    net.dropout.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    torch.manual_seed(3)
    random.seed(3)
    with pytest.warns(UserWarning, match="causal"):
        answer = ours(torch.arange(8)[None])
    after = torch.rand(1), random.random()
    assert net.calls == 1 and net.seen == 1 and net.training == net.dropout.training == training
    torch.manual_seed(3)
    random.seed(3)
    assert torch.equal(net(torch.arange(8)[None]), answer)
    assert after == (torch.rand(1), random.random())


def test_a_network_that_cannot_be_copied_is_used_all_the_same():
    net = Running(True)
    net.lock = threading.Lock()
    assert as_network(net)(torch.arange(8)[None]).shape == (1, 8, 20)


def test_an_unsupported_network_raises():
    with pytest.raises(ValueError, match="is not a supported network"):
        as_network(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="not a single projection"):
        as_network(wrapper(num_output_heads=2))
    assert isinstance(as_network(HuggingFaceMLM(_bert())), HuggingFaceMLM)


def _bert():
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
