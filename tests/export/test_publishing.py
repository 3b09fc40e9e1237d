"""Uploads go through huggingface_hub; a stub takes the place of the hub."""

import huggingface_hub
import pytest

from unmask.export import export_run, push


class Hub:
    """What a hub was asked to do."""

    def __init__(self, error=None):
        self.calls, self.error = [], error

    def create_repo(self, name, **options):
        self.calls.append(("create", name, options))

    def upload_folder(self, **options):
        self.calls.append(("upload", options))
        if self.error:
            raise self.error
        return "https://huggingface.co/someone/demo/commit/1"


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return hub


@pytest.mark.parametrize("private", [False, True])
def test_a_folder_is_uploaded(hub, tmp_path, private):
    assert push(tmp_path, "someone/demo", private) == "https://huggingface.co/someone/demo/commit/1"
    (_, name, options), (_, upload) = hub.calls
    assert name == "someone/demo" and options == {"private": private, "exist_ok": True}
    assert upload["repo_id"] == name and upload["folder_path"] == str(tmp_path)


def test_the_card_of_an_uploaded_model_loads_it_by_its_name(hub, trained, tmp_path):
    written = export_run(trained, tmp_path / "folder", push_to="someone/demo")
    assert written.url == "https://huggingface.co/someone/demo/commit/1"
    assert 'name = "someone/demo"' in (tmp_path / "folder" / "README.md").read_text()


@pytest.mark.parametrize("name", ["", "a/b/c", "some one/demo", "/demo"])
def test_a_wrong_name_is_refused_before_anything_is_written(hub, trained, tmp_path, name):
    with pytest.raises(ValueError, match="user/model"):
        export_run(trained, tmp_path / "folder", push_to=name)
    assert not hub.calls and not (tmp_path / "folder").exists()


def test_a_refusal_of_the_hub_keeps_the_folder(hub, trained, tmp_path):
    hub.error = OSError("403: no write access")
    with pytest.raises(ValueError, match=r"403: no write access.*hf auth login"):
        export_run(trained, tmp_path / "folder", push_to="someone/demo")
    assert (tmp_path / "folder" / "model.safetensors").is_file()
