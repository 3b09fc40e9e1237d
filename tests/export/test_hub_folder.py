"""The folder works alone, says what it is, and never takes the place of other files."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

import unmask
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export import export_run, hub_folder
from unmask.export.hub_folder import CODE, MANIFEST, tokenizer_files
from unmask.runs import load_run
from unmask.text.batching import left_padded

TEXTS = ["the cat sees the moon.", "my aunt", "a dog finds"]

ALONE = """
import json, torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers import AutoModelForTokenClassification
texts, folder = {texts!r}, {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
models = [kind.from_pretrained(folder, trust_remote_code=True) for kind in (
    AutoModelForMaskedLM, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification)]
rows = []
with torch.no_grad():
    for side in ("left", "right"):
        batch = tokenizer(texts, padding=True, return_tensors="pt", padding_side=side)
        logits = models[0](**batch).logits
        rows.append([row[real.bool()].tolist() for row, real in zip(logits, batch.attention_mask)])
        states = models[1](**batch).last_hidden_state
    shapes = [list(model(**batch).logits.shape) for model in models[2:]]
prompt = tokenizer(texts[1], return_tensors="pt")
written = models[0].diffusion_generate(prompt.input_ids, prompt.attention_mask, max_new_tokens=12)
fill = pipeline("fill-mask", model=folder, trust_remote_code=True)
try:
    import unmask
except ImportError:
    print(json.dumps({{
        "ids": tokenizer(texts).input_ids, "logits": rows, "shapes": shapes, "written": tokenizer.decode(written[0]),
        "fill": fill({masked!r}), "roles": [tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token],
        "longest": tokenizer.model_max_length, "sides": [tokenizer.truncation_side, tokenizer.padding_side],
        "states": states[0].shape[-1],
    }}))
"""  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "traces"])
def test_the_folder_alone_equals_ours(kind, request, without_unmask):
    """In a process that cannot import unmask: every Auto class, logits, fills and generations."""
    run, folder, texts, masked = (
        ("trained", "exported", TEXTS, "the cat [MASK] the moon.")
        if kind == "text"
        else ("trained_traces", "exported_traces", ["push rbx [NEXT] mov rbx rdi", "push rbp", "ret"], "push rbx [NEXT] mov [MASK] rdi")
    )  # fmt: skip
    run, folder = request.getfixturevalue(run), request.getfixturevalue(folder)
    found = without_unmask(ALONE.format(texts=texts, folder=str(folder), masked=masked))
    ours = unmask.load(run, device="cpu")
    tokenizer, rows = ours.tokenizer, [ours.tokenizer.encode(text) for text in texts]
    assert found["ids"] == rows
    batch = left_padded(rows, tokenizer.pad_token_id)
    with torch.no_grad():
        logits = ours.model(batch["input_ids"], batch["attention_mask"])
    for side in found["logits"]:
        for row, real, theirs in zip(logits, batch["attention_mask"], side, strict=True):
            assert torch.allclose(row[real], torch.tensor(theirs), atol=1e-5)
    assert found["shapes"] == [[3, 2], [3, max(map(len, rows)), 2]]
    assert found["written"] == ours.generate(texts[1], new_tokens=12, order="top_prob", temperature=0.0).text
    assert found["fill"][0]["token_str"].strip() == ours.fill(masked).blanks[0].alternatives[0].token.strip()
    assert found["roles"][:4] == [
        tokenizer.mask_token_id,
        tokenizer.pad_token_id,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
    ]
    assert found["longest"] == 64 and found["sides"] == ["right", "right"] and found["states"] == 32


def test_with_unmask_no_remote_code_is_needed(trained, exported):
    assert AutoConfig.from_pretrained(exported).model_type == "unmask"
    model = AutoModelForMaskedLM.from_pretrained(exported)
    assert type(model).__module__ == "unmask.export.hub_code.modeling_unmask"
    ours = load_run(trained)
    ids = torch.tensor([ours.tokenizer.encode(TEXTS[0])])
    assert torch.allclose(model(ids).logits, ours.model(ids), atol=1e-5)


def test_tied_weights_stay_tied(exported, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(exported)
    assert model.config.tie_word_embeddings
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.decoder.weight, model.lm_head.decoder.weight)


def test_embeddings_are_those_of_embed(trained, exported):
    ours = unmask.load(trained, device="cpu")
    tokenizer, encoder = AutoTokenizer.from_pretrained(exported), AutoModel.from_pretrained(exported)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states, real = encoder(**batch).last_hidden_state, batch.attention_mask[..., None]
    assert torch.allclose((states * real).sum(1) / real.sum(1), ours.embed(TEXTS), atol=1e-5)
    pooling = json.loads((exported / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] and pooling["word_embedding_dimension"] == 32


@pytest.mark.parametrize("kind", ["text", "traces"])
def test_load_reads_the_folder_back(kind, request):
    run, folder = (
        request.getfixturevalue(name + ("" if kind == "text" else "_traces")) for name in ("trained", "exported")
    )
    ours, again = unmask.load(run, device="cpu"), unmask.load(folder, device="cpu")
    assert type(again.model) is type(ours.model)
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    )
    ids = torch.tensor([[9, 1, 10]])
    assert torch.equal(again.model(ids), ours.model(ids))
    assert again.tokenizer.fingerprint == ours.tokenizer.fingerprint
    assert again.generate("a", new_tokens=8, seed=3).text == ours.generate("a", new_tokens=8, seed=3).text


def test_a_fine_tuned_folder_loads_back_too(exported, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(exported)
    with torch.no_grad():
        model.lm_head.decoder.bias += 1.0
    model.save_pretrained(tmp_path)
    shutil.copy(exported / "tokenizer.json", tmp_path)
    shutil.copy(exported / "tokenizer_config.json", tmp_path)
    ids = torch.tensor([[9, 1, 10]])
    assert torch.allclose(unmask.load(tmp_path, device="cpu").model(ids), model(ids).logits, atol=1e-5)


def test_a_classifier_is_not_loaded_as_a_masked_model(exported, tmp_path):
    """Its vocabulary head would be random."""
    AutoModelForSequenceClassification.from_pretrained(exported).save_pretrained(tmp_path)
    shutil.copy(exported / "tokenizer.json", tmp_path)
    with pytest.raises(ValueError, match="UnmaskForSequenceClassification, which has no vocabulary head"):
        unmask.load(tmp_path, device="cpu")


def test_tokens_around_a_text_are_left_out(tmp_path):
    """A BERT tokenizer puts [CLS] and [SEP] around a text; the network never saw them."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, processors

    backend = Backend(
        models.WordLevel({"[PAD]": 0, "[MASK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "b": 5}, unk_token="[PAD]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.add_special_tokens(["[PAD]", "[MASK]", "[CLS]", "[SEP]"])
    tokenizer = Tokenizer(backend, {"mask": "[MASK]", "pad": "[PAD]"}, {"truncation_side": "left"})
    for name, text in tokenizer_files(tokenizer, 16).items():
        (tmp_path / name).write_text(text)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("a b").input_ids == tokenizer.encode("a b") == [4, 5]
    assert theirs.truncation_side == "left" and theirs("a b [MASK]" * 9, truncation=True).input_ids[-1] == 1


def test_a_folder_of_other_files_is_not_overwritten(trained, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        export_run(trained, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        export_run(trained, tmp_path / "thesis.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unchanged_export_is_overwritten_and_a_changed_one_is_not(trained, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    first = export_run(trained, folder, license="mit")
    again = export_run(trained, folder)
    assert first.files == again.files and "licence | not stated" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("my own words")
    with pytest.raises(ValueError, match=r"README\.md"):
        export_run(trained, folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_failed_export_leaves_what_was_there(trained, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    export_run(trained, folder)
    before = (folder / MANIFEST).read_text()
    monkeypatch.setattr(hub_folder, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="disk is full"):
        export_run(trained, folder)
    assert (folder / MANIFEST).read_text() == before and [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_the_code_is_copied_literally_and_needs_no_unmask(exported):
    for name in CODE:
        text = (exported / name).read_text()
        assert text == (hub_folder.Path(hub_folder.hub_code.__file__).with_name(name)).read_text()
        imports = re.findall(r"^\s*(?:from|import) ([\w.]+)", text, flags=re.MULTILINE)
        assert {found.split(".")[0] for found in imports} <= {
            "",
            "__future__",
            "collections",
            "typing",
            "torch",
            "transformers",
        }


def test_the_card_states_the_facts(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    export_run(run, tmp_path / "plain")
    plain = (tmp_path / "plain" / "README.md").read_text()
    assert "Not measured" in plain and "license:" not in plain
    step = load_run(run).step
    bound = {"value": 1.25, "low": 1.2, "high": 1.3}
    report = {"step": step, "models": {"trained": {"documents": 12, "tokens": 3456, "bits_per_byte": bound}}}
    (run / "evaluation.json").write_text(json.dumps(report))
    export_run(run, tmp_path / "rich", license="apache-2.0")
    card = (tmp_path / "rich" / "README.md").read_text()
    assert (
        "1.250 bits per byte (95% interval 1.200 to 1.300)" in card and "12 held-out documents (3,456 tokens)" in card
    )
    assert (
        '\nlicense: "apache-2.0"\n' in card and "masked diffusion" in card and "most confident positions first" in card
    )
    (run / "evaluation.json").write_text(json.dumps(report | {"step": step - 1}))  # of an earlier checkpoint
    export_run(run, tmp_path / "stale")
    assert "Not measured" in (tmp_path / "stale" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exported", "exported_traces"])
def test_the_usage_block_of_the_card_runs(kind, request, without_unmask):
    folder = request.getfixturevalue(kind)
    (block,) = re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    assert without_unmask(f"{block}\nimport json; print(json.dumps(list(states.shape)))", folder.parent)[-1] == 32


def test_importing_the_package_is_light():
    code = "import sys, unmask.export, unmask.cli.export; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
