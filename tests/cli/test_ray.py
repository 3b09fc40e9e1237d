"""``--engine ray``: the bytes of the local engine, from a cluster of two processes on this machine."""

import os
from pathlib import Path

import pytest

import unmask as package
from tests.cli.test_batch import call, inputs, rows_of  # noqa: F401 (a fixture)
from tests.data.conftest import make_documents
from tests.data.test_preparation import contents, write_jsonl
from unmask.data.corpus import corpus_parts
from unmask.data.preparation import prepare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    path = str(Path(package.__file__).parents[1])
    environment = {"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}}
    os.environ.pop("RAY_ADDRESS", None)
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment, object_store_memory=2**27
    )
    yield ray
    ray.shutdown()


def test_a_corpus_is_prepared_with_the_same_bytes(cluster, unmask, tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", [each.text for each in make_documents(120)])
    options = (path, "--vocab-size", 300, "--valid-fraction", 0.2, "--drop-duplicates", "exact")
    assert unmask("prepare", *options, "--out", tmp_path / "here", "--workers", 1).code == 0
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 6000)
    done = unmask("prepare", *options, "--out", tmp_path / "ray", "--engine", "ray", "--workers", 2)
    assert done.code == 0, done.err
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


@pytest.mark.parametrize("command", ["generate", "embed"])
def test_batch_commands_write_the_same_bytes(cluster, unmask, trained, inputs, tmp_path, command):  # noqa: F811
    assert unmask(*call(command, trained, inputs, tmp_path / "here")).code == 0
    begun = call(command, trained, inputs, tmp_path / "ray", "--engine", "ray", "--workers", 2)
    done = unmask(*begun)
    assert done.code == 0, done.err
    assert contents(tmp_path / "ray") == contents(tmp_path / "here") and len(rows_of(tmp_path / "ray")) >= 11
    (tmp_path / "ray" / "finished.json").unlink()
    next((tmp_path / "ray").glob("part-00000002.*")).unlink()
    assert "(8 of them were finished" in unmask(*begun).out  # the missing part alone is written again
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


def test_an_error_of_a_task_is_that_of_the_local_engine(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 100)
    (tmp_path / "a.jsonl").write_text('{"text": "some text of a row"}\n' * 20 + "{broken\n")
    with pytest.raises(ValueError, match="is not valid JSON"):
        prepare(tmp_path / "a.jsonl", tmp_path / "out", engine="ray")
