"""The small trained model, and the task files with the place of their data."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import corpus, trained, unmask  # noqa: F401 (fixtures)

pytest.importorskip("lm_eval")


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> Path:
    """A folder of task files; data sets are cached beside it."""
    folder = tmp_path / "tasks"
    shutil.copytree(Path(__file__).parent / "tasks", folder)
    for file in folder.glob("*.yaml"):
        file.write_text(file.read_text().replace("DATA", str(folder)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return folder
