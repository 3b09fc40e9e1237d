"""Training from existing weights: logits equal the source's, resuming equals an uninterrupted run, contradictions are refused."""

import shutil
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

import unmask
from tests.training.conftest import config_of
from tests.training.test_resume import Killed, left_by
from unmask.build.run import train
from unmask.build.start import Start
from unmask.data.tokenizing.added_roles import with_required_roles
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export.hub_folder import export_run
from unmask.models.causal_lm import CausalLMAsMLM
from unmask.models.files import resolve_checkpoint, verify_manifest
from unmask.models.hf import HuggingFaceMLM
from unmask.storage import digest, read_json
from unmask.training import module
from unmask.training.annealing import AttentionAnnealing
from unmask.training.callbacks import read_metrics

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {
    "bert": lambda v: transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=v, pad_token_id=0, **SIZES)),
    "roberta": lambda v: transformers.RobertaForMaskedLM(
        transformers.RobertaConfig(vocab_size=v, pad_token_id=0, **SIZES)
    ),
    "modernbert": lambda v: transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(vocab_size=v, pad_token_id=0, **SIZES)
    ),
    "llama": lambda v: transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=v, **SIZES)),
    "gpt2": lambda v: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=v, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    ),
}
MASKED, CAUSAL = ("bert", "roberta", "modernbert"), ("llama", "gpt2")
NO_SIZES = {"model": {}}


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return Tokenizer.train((file.read_text() for file in sorted(corpus.iterdir())), 300)


def source(kind: str, tokenizer: Tokenizer, folder: Path) -> Path:
    """A folder of transformers; the tokenizer of a causal model has no mask and no padding."""
    torch.manual_seed(0)
    if kind in CAUSAL:
        content = tokenizer.backend.to_str().replace('"[MASK]"', '"<word0>"').replace('"[PAD]"', '"<word1>"')
        bare = Tokenizer(
            tokenizers.Tokenizer.from_str(content),
            {"bos": "[BOS]", "eos": "[EOS]"},
            {"eos_token": "[EOS]", "bos_token": "[BOS]"},
        )
        tokenizer = bare
    model = FAMILIES[kind](len(tokenizer))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def begun(tiny, init, *overrides):
    return config_of({**tiny, "model": {"init": str(init)}}, *overrides)


def weights_of(run):
    return unmask.load(run, device="cpu").model.state_dict()


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_network_starts_with_the_logits_of_its_source(kind, tiny, tokenizer, tmp_path):
    folder = source(kind, tokenizer, tmp_path / "source")
    start = Start.open(begun(tiny, folder))
    config = start.complete(begun(tiny, folder))
    network = start.network(config.model, start.choose_tokenizer(None)).eval()
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(1))
    known = len(start.written)
    if kind in CAUSAL:
        original = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        network.set_future(0.0)
        rows = torch.cat([torch.full((2, 1), start.written.bos_token_id), ids], 1)
        expected = original(rows).logits[:, :-1]
        assert isinstance(network, CausalLMAsMLM) and network.mask_idx == known and config.model.max_length == 63
    else:
        expected = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()(ids).logits
        assert isinstance(network, HuggingFaceMLM) and network.mask_idx == tokenizer.mask_token_id
    torch.testing.assert_close(network(ids)[..., :known], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MASKED)
def test_a_larger_vocabulary_leaves_old_logits_unchanged(kind, tiny, tokenizer, tmp_path):
    folder = source(kind, tokenizer, tmp_path / "source")
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_tokens(["<new1>", "<new2>"])
    Tokenizer(backend, tokenizer.special_tokens).save(tmp_path / "larger")
    config = begun(tiny, folder, f"data.tokenizer={tmp_path / 'larger'}")
    start = Start.open(config)
    network = start.network(start.complete(config).model, start.choose_tokenizer(config.data.tokenizer)).eval()
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(1))
    expected = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()(ids).logits
    found, known = network(ids), len(tokenizer)
    assert found.shape[-1] == known + 2
    torch.testing.assert_close(found[..., :known], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found[..., known:], expected.mean(-1, keepdim=True).expand(-1, -1, 2), rtol=1e-3, atol=1e-3
    )


def test_a_run_starts_another_with_a_larger_vocabulary_and_length(tiny, tmp_path):
    train(config_of(tiny, "train.steps=2"))
    loaded = unmask.load(tiny["run"], device="cpu")
    backend = tokenizers.Tokenizer.from_str(loaded.tokenizer.backend.to_str())
    backend.add_tokens(["<new>"])
    Tokenizer(backend, loaded.tokenizer.special_tokens).save(tmp_path / "larger")
    config = begun(
        tiny, tiny["run"], f"data.tokenizer={tmp_path / 'larger'}", "model.max_length=96", "model.dropout=0.1"
    )
    start = Start.open(config)
    complete = start.complete(config).model
    assert (complete.d_model, complete.max_length, complete.dropout, complete.init_step) == (16, 96, 0.1, 2)
    network = start.network(complete, start.choose_tokenizer(config.data.tokenizer)).eval()
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(1))
    assert torch.equal(network(ids)[..., :-1], loaded.model(ids))
    assert network(torch.randint(5, 200, (1, 90))).shape == (1, 90, len(loaded.tokenizer) + 1)


def test_an_export_starts_a_run_with_another_objective(tiny, tmp_path):
    train(config_of(tiny, "train.steps=2"))
    export_run(tiny["run"], tmp_path / "exported")
    config = begun(
        tiny,
        tmp_path / "exported",
        f"run={tmp_path / 'bert'}",
        "objective.name=bert",
        "train.steps=1",
        "optim.lr=1e-30",
    )
    checkpoint = train(config)
    first, second = weights_of(tiny["run"]), weights_of(checkpoint)
    assert all(torch.equal(second[name], weight) for name, weight in first.items())
    expected = {
        "path": str(tmp_path / "exported"),
        "step": 2,
        "sha256": digest(tmp_path / "exported" / "model.safetensors"),
    }
    assert verify_manifest(checkpoint)["init"] == expected
    saved = unmask.load_config(tmp_path / "bert" / "config.yaml").model
    assert (saved.init, saved.init_step, saved.init_sha256) == tuple(expected.values())
    assert unmask.load(checkpoint, device="cpu").step == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_killed_run_of_a_hugging_face_network_resumes_bit_for_bit(kind, tiny, tokenizer, tmp_path, monkeypatch):
    folder = source(kind, tokenizer, tmp_path / "source")
    annealed = ["model.init_attention=annealed", "train.steps=40"] if kind in CAUSAL else ["optim.ema=0.9"]
    whole, killed = (
        begun(
            tiny,
            folder,
            f"run={tmp_path / name}",
            "train.steps=16",
            "train.evaluate_every=20",
            "train.checkpoint_every=2",
            *annealed,
        )
        for name in ("whole", "killed")
    )
    train(whole)

    def dies(self, batch, batch_idx, training_step=module.MaskedLMModule.training_step):
        if self.trainer.global_step == 3:
            raise Killed
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(module.MaskedLMModule, "training_step", dies)
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    shutil.rmtree(folder)  # a run stands for itself
    train(killed)
    assert left_by(killed.run) == left_by(whole.run)
    losses = [value for _, name, value in read_metrics(Path(whole.run) / "metrics.csv") if name == "train/loss"]
    assert sum(losses[-2:]) < sum(losses[:2])
    loaded = unmask.load(whole.run, device="cpu")
    assert loaded.fill("the cat [MASK] the moon.").text
    assert (resolve_checkpoint(whole.run) / "model.safetensors").is_file()
    with pytest.raises(ValueError, match="save_pretrained"):
        export_run(whole.run, tmp_path / "exported")
    if kind == "gpt2":  # a run of such a network starts another
        again = Start.open(begun(tiny, whole.run))
        assert again.shift and again.network(again.complete(begun(tiny, whole.run)).model, again.tokenizer).mask_idx


def test_annealing_is_a_function_of_the_step():
    rise = AttentionAnnealing(100)
    assert [rise.future(step) for step in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert AttentionAnnealing(1).future(0) == 0.0


def test_roles_are_added_after_the_last_id(tokenizer):
    bare = Tokenizer(tokenizer.backend, {"eos": "[EOS]"}, {"eos_token": "[EOS]"})
    content = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "</s>": 2}, unk_token="a"))
    words = with_required_roles(Tokenizer(content, {"eos": "</s>"}))
    assert (words.mask_token_id, words.pad_token_id, words.eos_token_id, len(words)) == (3, 4, 2, 5)
    assert with_required_roles(bare).mask_token_id == tokenizer.mask_token_id


def test_contradictions_are_refused_by_name(tiny, tokenizer, tmp_path):
    folder = source("bert", tokenizer, tmp_path / "source")
    for keys, message in {
        ("model.d_model=64",): r"model\.d_model=64 \(source: 32\)",
        ("model.preset=tiny",): r"model\.d_model=256",
        ("model.causal_block=8",): r"model\.causal_block=8",
        ("model.init_attention=annealed",): "causal language models",
        ("model.init_shift=true",): "causal language models",
        ("model.init_sha256=abc",): "has changed",
        ("model.init_step=7",): "has changed",
        ("model.init_ids=7",): "has changed",
    }.items():
        config = begun(tiny, folder, *keys)
        with pytest.raises(ValueError, match=message):
            Start.open(config).complete(config)
    with pytest.raises(ValueError, match="block_size"):
        train(begun(tiny, folder, "data.block_size=65"))
    for given in ("characters", str(other_tokenizer(tmp_path))):
        with pytest.raises(ValueError, match=r"Leave data\.tokenizer out"):
            train(begun(tiny, folder, f"data.tokenizer={given}"))
    with pytest.raises(ValueError, match=r"train\.compile"):
        train(begun(tiny, folder, "train.compile=true"))
    with pytest.raises(ValueError, match=r"model\.init=PATH"):
        train(config_of(tiny, "model.kind=hugging_face", f"run={tmp_path / 'new'}"))
    with pytest.raises(ValueError, match="no-such"):
        train(begun(tiny, "no-such/model"))
    unmask.prepare(tiny["data"]["source"], tmp_path / "store", tokenizer=other_tokenizer(tmp_path), workers=1)
    with pytest.raises(ValueError, match=r"Leave data\.store out"):
        data = {"store": str(tmp_path / "store"), "block_size": 32}
        train(config_of({**tiny, "data": data, "model": {"init": str(folder)}}, f"run={tmp_path / 'stored'}"))
    t5 = tmp_path / "t5"
    transformers.T5Config(vocab_size=30, d_model=16).save_pretrained(t5)
    with pytest.raises(ValueError, match="neither a masked nor a causal"):
        Start.open(begun(tiny, t5))


def other_tokenizer(folder: Path) -> Path:
    Tokenizer.train(["zyx wvu tsr"], 270).save(folder / "other")
    return folder / "other"


def test_dropout_of_a_hugging_face_source_may_be_given(tiny, tokenizer, tmp_path):
    folder = source("bert", tokenizer, tmp_path / "source")
    kept, given = (Start.open(begun(tiny, folder, *keys)) for keys in ((), ("model.dropout=0.25",)))
    assert kept.complete(begun(tiny, folder)).model.dropout == 0.1
    assert {m.p for m in given.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}
    assert read_json(folder / "config.json")["hidden_dropout_prob"] == 0.1
