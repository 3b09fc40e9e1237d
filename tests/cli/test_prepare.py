"""``unmask prepare``: duplicates, shards of an array job, and what the command says."""

import json

import pytest

from tests.data.conftest import make_documents
from tests.data.test_preparation import contents, write_jsonl
from unmask.data.corpus import corpus_parts

pytestmark = pytest.mark.filterwarnings("ignore:.* of the bytes of .* are held out")


@pytest.fixture
def source(tmp_path):
    texts = [document.text for document in make_documents(90)]
    return write_jsonl(tmp_path / "corpus.jsonl", [*texts, *texts[:7]])


def test_duplicates_are_counted_and_named_in_the_command_to_train(unmask, source, tmp_path):
    options = (source, "--vocab-size", 300, "--valid-fraction", 0.2, "--workers", 1, "--drop-duplicates", "exact")
    done = unmask("prepare", *options, "--out", tmp_path / "out")
    assert done.code == 0 and "exact duplicates" in done.out and "data.drop_duplicates=exact" in done.out
    facts = json.loads(unmask("prepare", *options, "--out", tmp_path / "out", "--json").out)
    assert facts["dropped_documents"] == 7 and facts["train_documents"] + facts["valid_documents"] == 90
    other = unmask("prepare", source, "--vocab-size", 300, "--valid-fraction", 0.2, "--out", tmp_path / "out")
    assert other.code == 1 and "different: drop_duplicates" in other.err


def test_shards_of_an_array_job_write_the_folder_of_one_command(unmask, source, tmp_path, monkeypatch):
    options = ("prepare", source, "--vocab-size", 300, "--valid-fraction", 0.2, "--workers", 1)
    assert unmask(*options, "--out", tmp_path / "whole").code == 0
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 6000)
    first = unmask(*options, "--out", tmp_path / "out", "--shard", "2/2")
    assert first.code == 0 and "The last shard merges them" in first.out
    again = json.loads(unmask(*options, "--out", tmp_path / "out", "--shard", "2/2", "--json").out)
    assert again["shard"] == "2/2" and again["stores_missing"] > 0
    last = unmask(*options, "--out", tmp_path / "out", "--shard", "1/2")
    assert last.code == 0 and "Train on it:" in last.out
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    for wrong, message in (("3", "is no share of the work"), ("0/2", "the first is 1/2"), ("a/b", "3/16")):
        refused = unmask(*options, "--out", tmp_path / "other", "--shard", wrong)
        assert refused.code == 1 and message in refused.err
    refused = unmask(*options, "--out", tmp_path / "other", "--engine", "slurm")
    assert refused.code == 1 and "Choose one of processes, ray" in refused.err
