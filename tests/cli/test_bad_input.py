"""Every user error is one paragraph on standard error and a non-zero exit code, with empty standard output."""

import shutil

import pytest


def assert_taught(answer, *words: str) -> None:
    assert answer.code == 1, answer
    assert answer.out == ""
    paragraph = [line for line in answer.err.splitlines() if line.startswith("unmask: ")]
    assert len(paragraph) == 1 and "Traceback" not in answer.err
    for word in words:
        assert word in paragraph[0], paragraph[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "no/such/file.txt", "--out", "{tmp}/o"], ["no/such/file.txt"]),
        (["prepare", "{empty}", "--out", "{tmp}/o"], ["empty"]),
        (["prepare", "builtin:python-dosc", "--out", "{tmp}/o"], ["python-docs"]),
        (["prepare", "{corpus}", "--out", "{tmp}/o", "--tokenizer", "{maskless}"], ["mask"]),
        (["train", "train.stepz=3"], ["train.steps"]),
        (["train", "optim.lr=fast"], ["optim.lr", "fast"]),
        (["train", "data.block_size=4096"], ["max_length"]),
        (["train", "missing.yaml"], ["missing.yaml", "--print-config"]),
        (["train", "{broken_yaml}"], ["YAML"]),
        (["train", "--preset", "tiny", "data.source={empty}", "run={tmp}/r"], ["empty"]),
        (["fill", "no blank here", "--model", "{trained}"], ["[MASK]"]),
        (["fill", "[MASK]", "--model", "{tmp}/nowhere"], ["nowhere", "unmask demo"]),
        (["demo", "poetry"], ["'poetry'", "unmask demo text"]),
        (["fill", "[MASK]", "--model", "{corpus}"], ["checkpoint"]),
        (["fill", "[MASK]" * 70, "--model", "{trained}"], ["max_length", "64"]),
        (["fill", "[MASK]", "--model", "{trained}", "--confidence", "certainty"], ["top_prob"]),
        (["fill", "[MASK]", "--model", "{trained}", "--top", "0"], ["--top"]),
        (["generate", "--prompt", "the cat " * 40, "--model", "{trained}"], ["max_length", "64"]),
        (["generate", "--model", "{trained}", "--top-k", "3", "--top-p", "0.9"], ["top_k", "top_p"]),
        (["generate", "--model", "{trained}", "--confidence", "entropy", "--threshold", "1.5"], ["threshold"]),
        (["generate", "--model", "{trained}", "--threshold", "0.5"], ["confidence"]),
        (["generate", "--model", "{trained}", "--new-tokens", "0"], ["--new-tokens"]),
        (["generate", "--model", "{trained}", "--temperature", "-1"], ["temperature"]),
        (
            ["generate", "--model", "{trained}", "--order", "first_hitting", "--steps", "3"],
            ["One token per step", "64"],
        ),
        (["generate", "--model", "{trained}", "--steps", "0"], ["max_steps=0"]),
        (["generate", "--model", "{trained}", "--eos", "soon"], ["--eos soon", "never, late, free"]),
        (["generate", "--model", "{trained}", "--schedule", "steep"], ["steep"]),
        (["generate", "--model", "{trained}", "--remask", "all"], ["mask_predict"]),
        (["generate", "--model", "{trained}", "--block", "4", "--remask", "cap"], ["blocks or remasking"]),
        (["generate", "--model", "{trained}", "--require", "zqxj"], ["--require 'zqxj'", "single tokens"]),
        (["generate", "--model", "{trained}", "--forbid", ""], ["--forbid ''"]),
        (["generate", "--model", "{trained}", "--cache", "suffix"], ["prefix, dual", "block"]),
        (["generate", "--model", "{trained}", "--cache-refresh", "2"], ["there is none"]),
        (["generate", "--model", "{trained}", "--batch-size", "0"], ["--batch-size 0"]),
        (["generate", "--model", "{trained}", "--samples", "3", "--batch-size", "2", "--watch"], ["--batch-size 2"]),
        (["generate", "--model", "{trained}", "--input", "no/prompts.txt"], ["no/prompts.txt"]),
        (["generate", "--model", "{trained}", "--input", "{broken_lines}"], ["broken.jsonl, line 2", "not valid JSON"]),
        (
            ["fill", "--model", "{trained}", "--input", "{fieldless}"],
            ["fieldless.jsonl, line 1", "'prompt'", '{"text": …}'],
        ),
        (["fill", "--model", "{trained}", "--input", "{blank}"], ["blank.txt", "no text"]),
        (["score", "the cat " * 40, "--model", "{trained}"], ["max_length"]),
        (["score", "the [MASK] cat", "--model", "{damaged}"], ["damaged"]),
        (["evaluate", "--model", "{trained}", "--data", "no/such.txt"], ["no/such.txt"]),
        (["evaluate", "--model", "{trained}", "--checkpoint", "worst"], ["worst"]),
        (["evaluate", "--model", "{alone}"], ["--data"]),
    ],
)
def test_bad_input_is_explained(unmask, arguments, words, corpus, trained, tmp_path):
    from tokenizers import Tokenizer, models

    from unmask.models.files import resolve_checkpoint

    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.yaml").write_text("train: [1, {")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "the cat"}\n{"prompt": \n')
    (tmp_path / "fieldless.jsonl").write_text('{"prompt": "the [MASK]"}\n')
    (tmp_path / "blank.txt").write_text("\n \n")
    Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    shutil.copytree(resolve_checkpoint(trained), tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"half a fi")
    shutil.copytree(resolve_checkpoint(trained), tmp_path / "alone" / "checkpoints" / "step")
    config = tmp_path / "alone" / "checkpoints" / "step" / "run.yaml"
    places = {
        "tmp": tmp_path,
        "empty": tmp_path / "empty",
        "corpus": corpus,
        "trained": trained,
        "maskless": tmp_path / "tokenizer.json",
        "broken_yaml": tmp_path / "broken.yaml",
        "broken_lines": tmp_path / "broken.jsonl",
        "fieldless": tmp_path / "fieldless.jsonl",
        "blank": tmp_path / "blank.txt",
        "damaged": tmp_path / "damaged",
        "alone": tmp_path / "alone" / "checkpoints" / "step",
    }
    if "{alone}" in arguments:  # a checkpoint that was copied away from its run
        config.write_text(config.read_text().replace(str(trained), str(tmp_path / "gone")))
        manifest = config.with_name("checkpoint.json")
        manifest.unlink()
        from unmask.models.files import write_manifest

        write_manifest(config.parent, step=1)
    assert_taught(unmask(*(a.format(**places) if "{" in a else a for a in arguments)), *words)


def test_debug_shows_the_traceback(unmask, tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASK_DEBUG", "")
    with pytest.raises(ValueError, match="no model at"):
        unmask("--debug", "fill", "[MASK]", "--model", tmp_path / "nowhere")


def test_an_error_leaves_existing_folders_unchanged(unmask, corpus, tmp_path):
    """A refused second `prepare` does not change the folder of the first."""
    out = tmp_path / "store"
    assert unmask("prepare", corpus, "--out", out, "--vocab-size", 300).code == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert_taught(unmask("prepare", corpus, "--out", out, "--vocab-size", 400), "vocab_size")
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


@pytest.mark.parametrize("source", ["", "hub:", "dataset:"])
def test_an_empty_source_is_explained(unmask, tmp_path, source):
    assert_taught(unmask("prepare", source, "--out", tmp_path / "o"), "names nothing", "python-docs")


def test_an_unexpected_error_is_one_paragraph(unmask, monkeypatch):
    from unmask.text import loading

    def breaks(*arguments):
        raise TypeError("unexpected")

    monkeypatch.setattr(loading, "load", breaks)
    assert_taught(unmask("fill", "[MASK]"), "TypeError: unexpected", "--debug")


def test_an_interruption_explains_how_to_resume(unmask, monkeypatch):
    from unmask.text import loading

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "load", interrupted)
    answer = unmask("fill", "[MASK]")
    assert answer.code == 130 and "Run the same command again" in answer.err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"architecture": "RotaryTransformerMLMModel"}'),
        (
            "config.json",
            '{"architecture": "RotaryTransformerMLMModel", "num_embeddings": 300, "d_model": 8, "num_layers": 1, "nhead": 1, "new": 3}',
        ),
        (
            "config.json",
            '{"architecture": "RotaryTransformerMLMModel", "num_embeddings": 300, "d_model": 8, "num_layers": 1, "nhead": 1}',
        ),
        ("config.json", "[]"),
        ("model.safetensors", "not tensors"),
        ("config.json", None),
    ],
    ids=["arguments missing", "argument unknown", "other shapes", "a list", "no tensors", "no config"],
)
def test_a_checkpoint_of_another_version_is_explained(unmask, trained, tmp_path, file, content):
    from unmask.models.files import resolve_checkpoint, write_manifest

    folder = shutil.copytree(resolve_checkpoint(trained), tmp_path / "step")
    (folder / "checkpoint.json").unlink()
    if content is None:
        (folder / file).unlink()
        (folder / "config.json.old").touch()
    else:
        (folder / file).write_text(content)
    write_manifest(folder, step=1)
    answer = unmask("fill", "[MASK]", "--model", folder)
    assert_taught(answer, str(folder))
    assert "not foreseen" not in answer.err


@pytest.mark.parametrize("index", ["[]", '{"last": 3}', "{"])
def test_a_damaged_index_is_explained(unmask, tmp_path, index):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "index.json").write_text(index)
    answer = unmask("fill", "[MASK]", "--model", tmp_path)
    assert_taught(answer, "checkpoints")
    assert "not foreseen" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["fill", "\ud800 [MASK]"], "UTF-8"),
        (["generate", "--prompt", "\ud800"], "UTF-8"),
        (["score", "\ud800"], "UTF-8"),
        (["fill", "[MASK]", "--steps", "0"], "max_steps=0"),
        (["generate", "--steps", "0"], "max_steps=0"),
        (["fill", "[MASK]", "--temperature", "nan"], "temperature"),
        (["generate", "--temperature", "inf"], "temperature"),
        (["evaluate", "--documents", "0"], "--documents"),
    ],
)
def test_values_out_of_range_are_explained(unmask, trained, arguments, word):
    answer = unmask(*arguments, "--model", trained)
    assert_taught(answer, word)
    assert "not foreseen" not in answer.err


def test_empty_standard_input_is_explained(unmask, trained, monkeypatch):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert_taught(unmask("fill", "-", "--model", trained), "no text to fill")


def test_too_few_documents_for_an_interval_still_have_a_value(unmask, trained, tmp_path):
    (tmp_path / "one.txt").write_text("a\n")
    answer = unmask("evaluate", "--model", trained, "--data", tmp_path / "one.txt", "--unit", "line")
    assert answer.code == 0 and "bits per byte" in answer.out, answer.err


def test_a_partial_evaluation_is_not_stored_as_that_of_the_run(unmask, trained):
    """`unmask demo` reuses evaluation.json, so an evaluation of two documents must not replace it."""
    (trained / "evaluation.json").unlink(missing_ok=True)
    assert unmask("evaluate", "--model", trained, "--documents", 2, "--samples", 1).code == 0
    assert not (trained / "evaluation.json").exists()
