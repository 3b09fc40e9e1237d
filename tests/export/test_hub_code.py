"""The exported classes equal our networks, on padding of either side, and offer what transformers expects of a model."""

import pytest
import torch

from unmask.export.hub_code.modeling_unmask import (
    UnmaskConfig,
    UnmaskForMaskedLM,
    UnmaskForSequenceClassification,
    UnmaskForTokenClassification,
    UnmaskModel,
)
from unmask.export.hub_weights import hub_sizes, hub_weights, to_network
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

NEXT = 5
SIZES = {"num_embeddings": 40, "d_model": 32, "num_layers": 2, "nhead": 2, "max_length": 32}
TEXT = (RotaryTransformerMLMModel, {})
TRACES = (InstructionTraceMLMModel, {"next_idx": NEXT})
VARIANTS = [
    (*TEXT, {}),
    (*TEXT, {"causal_block": 3, "tie_embeddings": True}),
    (*TEXT, {"activation": "squared_relu", "rotary_emb_dim": 6, "rotary_base": 100.0, "final_layer_without_normalization": True}),
    (*TEXT, {"activation": "silu", "padding_idx": None, "dim_feedforward": 40, "layer_norm_eps": 1e-3}),
    (*TRACES, {}),
    (*TRACES, {"causal_block": 4, "tie_embeddings": True, "activation": "gelu"}),
    (*TRACES, {"final_layer_without_normalization": True, "activation": "gelu_tanh"}),
]  # fmt: skip


def pair(kind, needed, options):
    """A network with large random weights, and the exported model with the same ones."""
    torch.manual_seed(0)
    network = kind(**(SIZES | needed | options)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model = UnmaskForMaskedLM(UnmaskConfig(**hub_sizes(network))).eval()
    missing, unexpected = model.load_state_dict(hub_weights(network), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.decoder.weight"}
    model.tie_weights()
    return network, model


def rows():
    """Ids ``[4, 16]`` with padding on the left, on the right, on both sides and nowhere."""
    ids = torch.randint(0, 40, (4, 16), generator=torch.Generator().manual_seed(1))
    ids[:, 3::4] = NEXT
    real = torch.ones(4, 16, dtype=torch.bool)
    real[0, :5], real[1, 12:] = False, False
    real[2, :2], real[2, 10:] = False, False
    return ids, real


@pytest.mark.parametrize(("kind", "needed", "options"), VARIANTS)
def test_logits_equal_ours_with_padding_on_either_side(kind, needed, options):
    network, model = pair(kind, needed, options)
    ids, real = rows()
    with torch.no_grad():
        ours, theirs = network(ids, real), model(ids, attention_mask=real.long()).logits
        assert torch.allclose(ours[real], theirs[real], atol=1e-5, rtol=0)
        assert torch.allclose(network(ids), model(ids).logits, atol=1e-5, rtol=0)
        assert torch.allclose(
            network.hidden_states(ids, real)[real], model.model(ids, real).last_hidden_state[real], atol=1e-5
        )
    assert not torch.allclose(network(ids)[real], ours[real], atol=1e-3), "padding must matter to the comparison"


def test_a_row_of_separators_has_an_instruction_each():
    network, model = pair(*TRACES, {})
    ids = torch.full((2, 16), NEXT)
    ids[1, 5:] = 7
    with torch.no_grad():
        assert torch.allclose(network(ids), model(ids).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "needed", "options"), VARIANTS)
def test_positions_and_the_round_trip(kind, needed, options):
    network, model = pair(kind, needed, options)
    ids, _ = rows()
    positions = torch.arange(16).expand(4, 16).clone()
    positions[:, 7:] -= 7
    with torch.no_grad():
        assert torch.allclose(network(ids, positions=positions), model(ids, position_ids=positions).logits, atol=1e-5)
    again = to_network(model)
    assert type(again) is kind and again.config == network.config | {"dim_feedforward": again.config["dim_feedforward"], "rotary_emb_dim": again.config["rotary_emb_dim"], "local_init_layers": 0, "dropout": 0.1}  # fmt: skip
    assert torch.equal(again(ids), network(ids))


def test_gradients_equal_ours_and_checkpointing_changes_none():
    network, model = pair(*TEXT, {"dropout": 0.0})
    ids, real = rows()
    weights = torch.linspace(-1, 1, 40)
    (network(ids, real)[real] @ weights).sum().backward()
    found = {}
    for checkpointing in (False, True):
        model.zero_grad()
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        (model(ids, attention_mask=real).logits[real] @ weights).sum().backward()
        found[checkpointing] = model.model.layers[0].qkv.weight.grad.clone()
    ours = network.blocks[0].qkv.weight.grad
    assert torch.allclose(found[False], ours, atol=1e-4 * ours.abs().max())
    assert torch.allclose(found[True], found[False], atol=1e-6 * ours.abs().max())
    assert model.model.layers[0].gradient_checkpointing


def test_dropout_is_for_training_only():
    _, model = pair(*TEXT, {"dropout": 0.5})
    ids, _ = rows()
    assert torch.equal(model(ids).logits, model(ids).logits)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)


def test_embeddings_hidden_states_and_attentions():
    _, model = pair(*TEXT, {})
    ids, real = rows()
    with torch.no_grad():
        plain = model(ids, attention_mask=real)
        embedded = model(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=real)
        assert torch.equal(plain.logits, embedded.logits) and plain.hidden_states is None
        rich = model(ids, attention_mask=real, output_hidden_states=True, output_attentions=True)
    assert len(rich.hidden_states) == 3 and torch.allclose(model.lm_head(rich.hidden_states[-1]), rich.logits)
    assert torch.allclose(rich.logits[real], plain.logits[real], atol=1e-5)
    assert rich.attentions[0].shape == (4, 2, 16, 16)
    keys = rich.attentions[0][real[:, None, :, None].expand(4, 2, 16, 16)].view(-1, 16).sum(-1)
    assert torch.allclose(keys, torch.ones_like(keys), atol=1e-5)
    assert not rich.attentions[0][0, :, 5:, :5].any(), "no attention to padding"
    assert isinstance(model(ids, return_dict=False), tuple)


def test_a_model_of_traces_needs_ids_beside_embeddings():
    _, model = pair(*TRACES, {})
    ids, _ = rows()
    embeddings = model.get_input_embeddings()(ids)
    assert torch.equal(model(ids, inputs_embeds=embeddings).logits, model(ids).logits)
    with pytest.raises(ValueError, match="where instructions end"):
        model(inputs_embeds=embeddings)


def test_misuse_is_refused():
    _, model = pair(*TEXT, {})
    with pytest.raises(ValueError, match="not both"):
        model(torch.zeros(1, 2, dtype=torch.long), inputs_embeds=torch.zeros(1, 2, 32))
    with pytest.raises(ValueError, match="truncation=True"):
        model(torch.zeros(1, 33, dtype=torch.long))
    with pytest.raises(ValueError, match="num_attention_heads=3"):
        UnmaskConfig(hidden_size=32, num_attention_heads=3)
    with pytest.raises(ValueError, match="rotary_dim=7"):
        UnmaskConfig(rotary_dim=7)
    with pytest.raises(ValueError, match="choose relu"):
        UnmaskConfig(hidden_act="tanh")


def test_losses():
    _, model = pair(*TEXT, {})
    ids, real = rows()
    labels = ids.masked_fill(~real, -100)
    out = model(ids, attention_mask=real, labels=labels)
    assert torch.allclose(out.loss, torch.nn.functional.cross_entropy(out.logits[real], ids[real]))
    doubled = model(ids, attention_mask=real, labels=labels, num_items_in_batch=2 * real.sum())
    assert torch.allclose(doubled.loss * 2, out.loss)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [(torch.tensor([0, 2, 1, 0]), 3), (torch.tensor([0.5, 1.0, -1.0, 0.0]), 1), (torch.eye(4, 3), 3)],
    ids=["one label", "regression", "several labels"],
)
def test_classification_of_rows(labels, kind):
    _, base = pair(*TEXT, {})
    config = base.config
    config.num_labels = kind
    model = UnmaskForSequenceClassification(config).eval()
    ids, real = rows()
    out = model(ids, attention_mask=real, labels=labels)
    assert out.logits.shape == (4, kind) and out.loss.isfinite()
    alone = model(ids[2:3, 2:10])
    assert torch.allclose(alone.logits[0], out.logits[2], atol=1e-5), "padding changes nothing"


def test_classification_of_tokens():
    _, base = pair(*TEXT, {})
    base.config.num_labels = 5
    model = UnmaskForTokenClassification(base.config).eval()
    ids, real = rows()
    out = model(ids, attention_mask=real, labels=(ids % 5).masked_fill(~real, -100))
    assert out.logits.shape == (4, 16, 5) and out.loss.isfinite()


def test_embeddings_can_be_resized_and_stay_tied():
    _, model = pair(*TEXT, {"tie_embeddings": True})
    model.resize_token_embeddings(48)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model(torch.tensor([[47]])).logits.shape[-1] == 48
    assert to_network(model).num_tokens == 48


def test_the_encoder_is_captured_whole_for_any_shape():
    """What ONNX export begins with: no step depends on values."""
    _, model = pair(*TEXT, {"causal_block": 3})
    ids, real = rows()
    batch, seq = torch.export.Dim("batch", max=64), torch.export.Dim("seq", min=2, max=32)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids, mask):
            return self.model(ids, attention_mask=mask).logits

    program = torch.export.export(Logits(), (ids, real.long()), dynamic_shapes=({0: batch, 1: seq}, {0: batch, 1: seq}))
    fewer = ids[:2, :9], real[:2, :9].long()
    assert torch.allclose(program.module()(*fewer), model(*fewer).logits, atol=1e-5)


def test_what_is_no_export_is_no_network():
    model = UnmaskModel(
        UnmaskConfig(vocab_size=32, hidden_size=16, num_attention_heads=1, rotary_dim=8, num_hidden_layers=1)
    )
    with pytest.raises(ValueError, match="no masked language model"):
        to_network(model)
