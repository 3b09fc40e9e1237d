"""``unmask export`` on the command line."""

import json

import huggingface_hub
import pytest

from tests.export.test_publishing import Hub
from unmask.runs import load_run


@pytest.fixture(scope="module")
def best(trained):
    return load_run(trained, "best")


def test_export_writes_a_folder_and_says_how_to_load_it(unmask, trained, tmp_path):
    answer = unmask("export", trained, "-o", tmp_path / "model")
    assert answer.code == 0 and "parameters, step 120" in answer.out and "fill-mask" in answer.out
    assert (tmp_path / "model" / "config.json").is_file()


def test_export_as_json(unmask, trained, best, tmp_path):
    answer = unmask(
        "export", trained, "--output", tmp_path / "model", "--checkpoint", "best", "--license", "mit", "--json"
    )
    found = json.loads(answer.out)
    assert found["step"] == best.step and found["source"] == str(best.folder) and found["url"] is None
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "1_Pooling/config.json"} <= set(
        found["files"]
    )
    assert found["parameters"] == sum(p.numel() for p in best.model.parameters())
    assert 'license: "mit"' in (tmp_path / "model" / "README.md").read_text()


def test_push_uploads_to_the_hub(unmask, trained, tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    answer = unmask("export", trained, "-o", tmp_path / "model", "--push", "someone/demo", "--private")
    assert answer.code == 0 and "commit/1" in answer.out and "model='someone/demo'" in answer.out
    assert hub.calls[0] == ("create", "someone/demo", {"private": True, "exist_ok": True})


def test_mistakes_are_one_paragraph(unmask, trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for arguments, said in (
        ((trained, "-o", tmp_path), "notes.txt"),
        ((trained, "-o", tmp_path / "new", "--private"), "--push"),
        ((trained, "-o", tmp_path / "new", "--push", "a b"), "user/model"),
        ((tmp_path / "none", "-o", tmp_path / "new"), "no model at"),
    ):
        answer = unmask("export", *arguments)
        assert answer.code == 1 and said in answer.err and not (tmp_path / "new").exists()
    assert unmask("export", trained).code == 2
