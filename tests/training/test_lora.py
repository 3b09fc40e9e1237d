"""LoRA: the adapted network is the naive ``W x + s B A x`` in value and gradient; runs merge, resume and leave ``W`` as it was."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import unmask
from tests.training.conftest import config_of
from tests.training.test_resume import Killed, left_by
from tests.training.test_start import FAMILIES, source
from unmask.build.run import train
from unmask.build.start import Start
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export.hub_folder import export_run
from unmask.models.files import resolve_checkpoint
from unmask.nn.execution import BlockRunner
from unmask.training import module
from unmask.training.callbacks import read_metrics
from unmask.training.optim import trained_parameters

peft = pytest.importorskip("peft")
from unmask.training.checkpoints import ADAPTERS  # noqa: E402
from unmask.training.lora import AdaptedLinear, add_adapters  # noqa: E402


def tiny_network(seed=0):
    torch.manual_seed(seed)
    return unmask.RotaryTransformerMLMModel(30, 16, 2, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8, dropout=0.0)


def naive(network, adapted_parts, scaling):
    """The plain network with weights ``W + s B A``, differentiable in A and B."""
    weights = {}
    for name, value in adapted_parts.items():
        if name.endswith("base_layer.weight"):
            layer = name.removesuffix(".base_layer.weight")
            up, down = (adapted_parts[f"{layer}.lora_{side}.default.weight"] for side in "BA")
            weights[f"{layer}.weight"] = value + scaling * up @ down
        elif ".lora_" not in name:
            weights[name.replace(".base_layer.", ".")] = value
    return lambda ids: torch.func.functional_call(network, weights, (ids,))


@pytest.mark.parametrize("at_positions", [False, True])
def test_the_adapted_network_is_the_naive_form_in_value_and_gradient(at_positions):
    plain, adapted = tiny_network(), tiny_network()
    layers = add_adapters(adapted, 3, 5.0, seed=1)
    assert layers.scaling == 5.0 / 3 and len(layers.transposed) == 8
    assert all(isinstance(adapted.get_submodule(name), AdaptedLinear) for name in layers.transposed)
    ids = torch.randint(2, 30, (3, 9), generator=torch.Generator().manual_seed(2))
    assert torch.equal(adapted(ids), plain(ids))  # B is zero at first
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == (".lora_" in name)
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    where = torch.zeros(3, 9, dtype=torch.bool)
    where[0, 2] = where[1, 5:7] = where[2, 0] = True
    expected = naive(plain, dict(adapted.named_parameters()), layers.scaling)(ids)[where]
    if at_positions:  # the last block then computes some of its outputs alone
        found = adapted.head(adapted.hidden_states_where(ids, where.flatten().nonzero()[:, 0]))
    else:
        found = adapted(ids)[where]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(out.square().sum(), trained) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_merged_weights_give_the_logits_of_the_adapters(kind, tiny, corpus, tmp_path):
    tokenizer = Tokenizer.train((file.read_text() for file in sorted(corpus.iterdir())), 300)
    folder = source(kind, tokenizer, tmp_path / "source")
    config = config_of({**tiny, "model": {"init": str(folder)}})
    start = Start.open(config)
    network = start.network(start.complete(config).model, start.choose_tokenizer(None)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers = add_adapters(network, 2)
    for name, parameter in network.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.5)
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(1))
    expected = network(ids)
    weights = network.state_dict()
    merged, parts = layers.merge(weights)
    assert merged.keys() == before.keys()
    assert {name: value.tolist() for name, value in layers.restore(merged, parts).items()} == {
        name: value.tolist() for name, value in weights.items()
    }
    again = Start.open(config)
    plain = again.network(again.complete(config).model, again.choose_tokenizer(None)).eval()
    plain.load_state_dict(merged)
    assert sum(not torch.equal(merged[name], before[name]) for name in merged) == len(layers.transposed) >= 8
    torch.testing.assert_close(plain(ids), expected, rtol=1e-4, atol=1e-4)


def test_a_run_lowers_the_bound_keeps_the_weights_and_is_read_exported_and_continued(tiny, tmp_path, capsys):
    train(config_of(tiny, "train.steps=4"))
    first = load_file(resolve_checkpoint(tiny["run"]) / "model.safetensors")
    tree = {**tiny, "run": str(tmp_path / "adapted"), "model": {"init": tiny["run"]}}
    config = config_of(tree, "train.lora_rank=4", "train.lora_alpha=16", "train.steps=24", "optim.lr=0.02")
    checkpoint = train(config)
    assert re.search(r"LoRA of rank 4 on 8 layers: [\d,]+ of [\d,]+ parameters are trained", capsys.readouterr().out)
    parts, merged = load_file(checkpoint / ADAPTERS), load_file(checkpoint / "model.safetensors")
    for name, value in parts.items():
        if ".base_layer." in name:
            assert torch.equal(value, first[name.replace(".base_layer.", ".")])
    layers = {name.split(".base_layer.")[0] for name in parts if ".base_layer." in name}
    assert all(torch.equal(merged[n], first[n]) for n in first if n.rsplit(".", 1)[0] not in layers)
    assert all(not torch.equal(merged[f"{layer}.weight"], first[f"{layer}.weight"]) for layer in layers)
    losses = [value for _, name, value in read_metrics(Path(config.run) / "metrics.csv") if name == "valid/loss"]
    assert losses[-1] < losses[0]
    loaded = unmask.load(config.run, device="cpu")
    assert type(loaded.model).__name__ == "RotaryTransformerMLMModel" and loaded.fill("the cat [MASK] the moon.").text
    export_run(config.run, tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    assert any(torch.equal(value, merged["blocks.0.qkv.weight"]) for value in exported.values())
    with pytest.raises(ValueError, match=r"train.lora_rank \(saved: 4, now: 0\)"):
        train(config_of(tree, "train.steps=30"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "bert", "gpt2"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_killed_run_resumes_bit_for_bit(kind, ema, tiny, corpus, tmp_path, monkeypatch):
    if kind == "ours":
        train(config_of(tiny, "train.steps=2"))
        folder = shutil.copytree(tiny["run"], tmp_path / "source")
    else:
        tokenizer = Tokenizer.train((file.read_text() for file in sorted(corpus.iterdir())), 300)
        folder = source(kind, tokenizer, tmp_path / "source")
    common = ["train.lora_rank=2", "train.checkpoint_every=2", "train.evaluate_every=20", f"optim.ema={ema}"]
    tree = {**tiny, "model": {"init": str(folder)}}
    whole, killed = (config_of(tree, f"run={tmp_path / name}", *common) for name in ("whole", "killed"))
    train(whole)

    def dies(self, batch, batch_idx, training_step=module.MaskedLMModule.training_step):
        if self.trainer.global_step == 5:
            raise Killed
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(module.MaskedLMModule, "training_step", dies)
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    shutil.rmtree(folder)
    train(killed)
    assert left_by(killed.run) == left_by(whole.run)
    if kind == "gpt2":  # its tokenizer had no mask: the new rows were trained, the others were not
        before = FAMILIES[kind](300)
        weights = load_file(resolve_checkpoint(whole.run) / "model.safetensors")
        rows = next(v for n, v in weights.items() if n.endswith("wte.weight"))
        assert len(rows) > len(before.transformer.wte.weight)


def test_activation_checkpointing_changes_no_gradient_of_the_adapters():
    network = tiny_network().train()
    add_adapters(network, 2)
    for name, parameter in network.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(2, 30, (3, 9), generator=torch.Generator().manual_seed(2))
    trained = [p for p in network.parameters() if p.requires_grad]
    expected = torch.autograd.grad(network(ids).square().sum(), trained)
    network.run_block = BlockRunner(checkpoint_activations=True)
    for found, gradient in zip(torch.autograd.grad(network(ids).square().sum(), trained), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


def test_freezing_leaves_adapters_out_and_the_count_says_so(tiny, tmp_path, capsys):
    train(config_of(tiny, "train.steps=2"))
    tree = {**tiny, "run": str(tmp_path / "adapted"), "model": {"init": tiny["run"]}}
    checkpoint = train(config_of(tree, "train.lora_rank=2", "train.freeze=[blocks.0.*]", "train.steps=2"))
    parts = load_file(checkpoint / ADAPTERS)
    ups = {name: bool(part.any()) for name, part in parts.items() if ".lora_B." in name}
    assert ups and all(moved == ("blocks.1." in name) for name, moved in ups.items())
    trained = sum(p.numel() for name, p in parts.items() if ".lora_" in name and "blocks.1." in name)
    assert f"layers: {trained:,} of" in capsys.readouterr().out


def test_only_new_rows_of_the_embedding_are_trained():
    network = tiny_network()
    add_adapters(network, 2, trained_rows=28)
    adapters = sum(p.numel() for name, p in network.named_parameters() if ".lora_" in name)
    assert trained_parameters(network)[0] == adapters + 2 * 16
    before = network.embedding.weight.detach().clone()
    ids = torch.tensor([[2, 3, 28, 29, 5]])
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        network(ids).logsumexp(-1).sum().backward()
        optimizer.step()
    after = network.embedding.weight
    assert torch.equal(after[:28], before[:28]) and not torch.isclose(after[28:], before[28:]).any()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.lora_rank=4"], "random"),
        (["train.lora_alpha=4"], "no effect without adapters"),
        (["train.lora_targets=[*.qkv]"], "no effect without adapters"),
    ],
)
def test_adapters_without_effect_or_start_are_refused(tiny, overrides, message):
    with pytest.raises(ValueError, match=message):
        train(config_of(tiny, *overrides))


def test_targets_are_patterns_and_a_wrong_one_names_the_layers():
    network = tiny_network()
    assert set(add_adapters(network, 2, targets=["*.qkv", "blocks.1.up"]).transposed) == {
        "blocks.0.qkv", "blocks.1.qkv", "blocks.1.up"
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"no linear layer matches 'query'.*blocks.0.qkv.*\*query\*"):
        add_adapters(tiny_network(), 2, targets=["query"])
    with pytest.raises(ValueError, match="at most 16"):
        add_adapters(tiny_network(), 17)
