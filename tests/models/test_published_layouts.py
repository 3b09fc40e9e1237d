"""Checkpoints of the libraries whose names are kept: equal logits, and a round trip that changes no number."""

import pickle

import pytest
import torch
import yaml

from tests.models.published_encoders import RotaryEncoder, TraceEncoder
from unmask import InstructionTraceMLMModel, RotaryTransformerMLMModel
from unmask.export.hub_weights import hub_sizes
from unmask.models.lightning_files import is_lightning_file, open_lightning
from unmask.models.published_layouts import LAYOUTS, export_state, import_state

V = 40
TRACE_ARGUMENTS = {"heads": 2, "next_token_id": 3, "mask_token_id": 4, "dropout": 0.0, "eps": 1e-12, "lr": 1e-4}


def spread(model):
    """Weights, biases and norms, all away from where they start."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def rotary(**options):
    return spread(RotaryEncoder(V, 16, 2, 2, 24, **{"rotated": 4, **options}))


def traces():
    return spread(TraceEncoder(V, 16, 2, 2, 24, 70, 3, 1e-12))


def rows():
    ids = torch.randint(5, V, (3, 12), generator=torch.Generator().manual_seed(1))
    ids[0, 3] = ids[1, 0] = ids[1, 7] = ids[2, 5] = 3
    return ids


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("options", [{}, {"gelu": True}, {"norm": False}, {"rotated": 8}])
def test_the_rotary_layout_has_equal_logits_and_returns_bit_for_bit(options):
    theirs = rotary(**options)
    arguments = {"nhead": 2, "activation": "gelu" if options.get("gelu") else "relu", "max_length": 20}
    ours = import_state(theirs.state_dict(), arguments)
    assert type(ours) is RotaryTransformerMLMModel
    torch.testing.assert_close(ours(rows()), theirs(rows()), atol=1e-5, rtol=1e-4)
    equal(export_state(ours), theirs.state_dict())


def test_the_trace_layout_has_equal_logits_with_padding_and_returns_bit_for_bit():
    theirs = traces()
    ours = import_state(theirs.state_dict(), TRACE_ARGUMENTS)
    assert isinstance(ours, InstructionTraceMLMModel) and ours.max_length == 70 and ours.mask_idx == 4
    real = torch.arange(12) < torch.tensor([12, 9, 12])[:, None]
    found, expected = ours(rows(), real), theirs(rows(), real)
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-4)
    equal(export_state(ours), theirs.state_dict())
    with pytest.raises(ValueError, match="in its own layout"):
        hub_sizes(ours)


def test_prefixes_of_lightning_and_of_compilation_are_dropped():
    theirs, other = rotary(), {"predictor.model.embed_tokens.weight": torch.zeros(2, 2)}
    wrapped = {f"model._orig_mod.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = import_state(wrapped | other, {"nhead": 2})
    torch.testing.assert_close(ours(rows()), theirs(rows()), atol=1e-5, rtol=1e-4)


def test_our_networks_go_there_and_back_where_the_layout_has_their_weights():
    torch.manual_seed(0)
    network = RotaryTransformerMLMModel(V, 16, 2, 2, rotary_emb_dim=8, tie_embeddings=True).eval()
    back = import_state(export_state(network), {"nhead": 2, "mask_idx": 1})
    assert torch.equal(back(rows()), network(rows()))
    with pytest.raises(ValueError, match=r"no encoder\.0\.attn_qkv\.bias"):
        export_state(RotaryTransformerMLMModel(V, 16, 1, 2, rotary_emb_dim=8, local_init_layers=1))
    with pytest.raises(ValueError, match="activations relu and gelu_tanh"):
        export_state(RotaryTransformerMLMModel(V, 16, 1, 2, activation="gelu"))
    with pytest.raises(ValueError, match="rotary positions"):
        export_state(InstructionTraceMLMModel(V, 16, 1, 2, next_idx=3))


@pytest.mark.parametrize("where", ["hyper_parameters", "nested", "hparams", "arguments"])
def test_a_lightning_file_opens_with_sizes_from_any_place(where, tmp_path):
    theirs, sizes = rotary(), {"nhead": 2, "max_length": 30, "_target_": "mlm.Model", "callbacks": None}
    content = {"state_dict": {f"model.{k}": v for k, v in theirs.state_dict().items()}, "global_step": 7}
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    given = {}
    if where == "hyper_parameters":
        content["hyper_parameters"] = sizes
    elif where == "nested":
        content["hyper_parameters"] = {"model": sizes, "seed": 3, "nhead": 8}
    elif where == "hparams":
        (tmp_path / "hparams.yaml").write_text(yaml.safe_dump(sizes))
    else:
        given = {"nhead": 2, "max_length": 30}
    torch.save(content, folder / "last.ckpt")
    network, step = open_lightning(folder / "last.ckpt", **given)
    assert step == 7 and network.max_length == 30
    torch.testing.assert_close(network(rows()), theirs(rows()), atol=1e-5, rtol=1e-4)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_bad_files_are_refused_in_a_paragraph_and_no_code_runs(tmp_path):
    cases = {
        "evil": ({"state_dict": rotary().state_dict(), "hyper_parameters": Evil()}, "can run code"),
        "other": ({"state_dict": {"a.weight": torch.zeros(2)}}, "none of the published layouts"),
        "empty": ({"state_dict": 3}, "no state_dict of tensors"),
        "heads": ({"state_dict": rotary().state_dict()}, "number of attention heads"),
        "shape": ({"state_dict": rotary().state_dict() | {"encoder.1.o_proj.weight": torch.zeros(2, 2)},
                   "hyper_parameters": {"nhead": 2}}, "do not fit"),
    }  # fmt: skip
    for name, (content, words) in cases.items():
        file = tmp_path / f"{name}.ckpt"
        file.write_bytes(pickle.dumps(content)) if name == "evil" else torch.save(content, file)
        with pytest.raises(ValueError, match=words):
            open_lightning(file)
    torch.save({"state_dict": rotary().state_dict(), "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="can run code"):
        open_lightning(tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="There is no checkpoint"):
        open_lightning(tmp_path / "nowhere.ckpt")
    torch.save({"state_dict": rotary().state_dict()}, tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match=r"heads is no argument of this layout\. It reads nhead"):
        open_lightning(tmp_path / "plain.ckpt", heads=2)
    assert is_lightning_file("a.ckpt") and not is_lightning_file("runs/a") and len(LAYOUTS) == 2
