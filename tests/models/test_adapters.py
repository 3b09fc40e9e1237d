"""Networks of other houses: the same logits through ``hidden_states`` and ``logits_at``, and causal ones refused."""

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
def test_a_transformer_wrapper_is_asked_where_somebody_reads(options):
    net = wrapper(**options)
    ours = as_network(net)
    assert isinstance(ours, XTransformerMLM)
    ids, where = torch.randint(0, 20, (3, 8)), torch.rand(3, 8) < 0.5
    torch.testing.assert_close(ours(ids), net(ids))
    torch.testing.assert_close(ours.logits_at(ours.hidden_states(ids), where), net(ids)[where])


def test_embeddings_are_added_to_in_every_network():
    ids = torch.randint(2, 20, (3, 8))
    from transformers import BertConfig, BertForMaskedLM

    bert = BertForMaskedLM(BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).eval()
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


def test_causal_networks_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="sees only those before it"):
        as_network(wrapper("Decoder"))

    class Running(nn.Module):
        num_tokens, max_seq_len = 20, 8

        def __init__(self, both_ways: bool):
            super().__init__()
            self.embedding, self.both_ways = nn.Embedding(20, 20), both_ways

        def forward(self, ids):
            x = self.embedding(ids).cumsum(1)
            return x + self.embedding(ids).flip(1).cumsum(1).flip(1) if self.both_ways else x

    with pytest.raises(ValueError, match="changing the last token changes nothing at the first"):
        as_network(Running(False))
    assert isinstance(as_network(Running(True)), PlainNetwork)


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="no network known here"):
        as_network(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="not one projection"):
        as_network(wrapper(num_output_heads=2))
    assert isinstance(as_network(HuggingFaceMLM(_bert())), HuggingFaceMLM)


def _bert():
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32))
