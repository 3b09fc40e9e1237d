"""``unmask embed``: every format in and out, the fields of rows, and resuming after an interruption."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import unmask as package
from unmask.text import embedding_job

TEXTS = ["the cat sees the moon.", "", "a dog", "my aunt likes old trees.", "the cat"]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "texts.jsonl"
    kept = [{"id": n, "source": "s", "tag": [n], "body": text} for n, text in enumerate(TEXTS)]
    path.write_text("\n".join(map(json.dumps, kept)))
    return path


@pytest.fixture
def vectors(trained):
    return package.load(trained, device="cpu").embed([text for text in TEXTS if text]).numpy()


def embed(unmask, trained, source, output, *options):
    done = unmask("embed", "--model", trained, "--input", source, "--output", output, "--device", "cpu", *options)
    assert done.code == 0, done.err
    return done


def test_each_output_holds_the_vectors_with_the_fields_of_the_rows(unmask, trained, rows, tmp_path, vectors):
    options = ("--field", "body", "--keep", "tag", "--batch-size", "2", "--dtype", "float32", "--checkpoint", "last")
    for suffix in (".parquet", ".jsonl", ".npy"):
        embed(unmask, trained, rows, tmp_path / f"v{suffix}", *options)
    table = pq.read_table(tmp_path / "v.parquet").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    beside = [json.loads(line) for line in (tmp_path / "v.rows.jsonl").read_text().splitlines()]
    array = np.load(tmp_path / "v.npy")
    assert [row["id"] for row in table] == [row["id"] for row in lines] == [row["id"] for row in beside] == [*range(5)]
    assert table[2]["place"] == "texts.jsonl:3" and table[2]["source"] == "s"
    assert json.loads(table[2]["tag"]) == lines[2]["tag"] == beside[2]["tag"] == [2]
    assert table[1]["vector"] is None and lines[1]["vector"] is None and np.isnan(array[1]).all()
    kept = [0, 2, 3, 4]
    for found in ([table[i]["vector"] for i in kept], [lines[i]["vector"] for i in kept], array[kept]):
        assert np.allclose(found, vectors, atol=1e-5)
    assert np.array_equal(np.array([lines[i]["vector"] for i in kept], np.float32), array[kept])


def test_every_format_of_rows_and_lines_gives_equal_vectors(unmask, trained, tmp_path, vectors):
    texts = [text for text in TEXTS if text]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "a.csv").write_text("id,text\n" + "\n".join(f"{n},{text}" for n, text in enumerate(texts)))
    pq.write_table(pa.table({"text": texts, "id": ["a", "b", "c", "d"]}), tmp_path / "a.parquet")
    for name in ("a.txt", "a.csv", "a.parquet"):
        embed(unmask, trained, tmp_path / name, tmp_path / f"{name}.out.npy", "--unit", "line")
        assert np.allclose(np.load(tmp_path / f"{name}.out.npy"), vectors, atol=1e-5)


def test_single_tokens_layers_and_lengths(unmask, trained, rows, tmp_path):
    options = ("--field", "body", "--pooling", "token", "--layer", "1", "--normalise")
    embed(unmask, trained, rows, tmp_path / "t.parquet", *options)
    embed(unmask, trained, rows, tmp_path / "t.npy", *options)
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    array = np.load(tmp_path / "t.npy")
    places = [json.loads(line) for line in (tmp_path / "t.rows.jsonl").read_text().splitlines()]
    for row, place in zip(table, places, strict=True):
        assert len(row["tokens"]) == len(row["vectors"]) == place["stop"] - place["start"]
        assert np.array_equal(
            np.array(row["vectors"], np.float32).reshape(-1, 32), array[place["start"] : place["stop"]]
        )
    assert np.allclose(np.linalg.norm(array, axis=1), 1, atol=1e-5)


def test_an_interrupted_command_continues_without_redoing_or_losing_a_row(unmask, trained, rows, tmp_path, monkeypatch):
    embed(unmask, trained, rows, tmp_path / "whole.jsonl", "--field", "body", "--part-rows", "2")
    run, seen = embedding_job.embed_rows, []

    def stops(model, ids, *rest):
        seen.append(len(ids))
        if len(seen) == 2:
            raise RuntimeError("killed")
        return run(model, ids, *rest)

    monkeypatch.setattr(embedding_job, "embed_rows", stops)
    again = (
        "embed",
        "--model",
        trained,
        "--input",
        rows,
        "--output",
        tmp_path / "v.jsonl",
        "--field",
        "body",
        "--device",
        "cpu",
        "--part-rows",
        "2",
    )
    assert unmask(*again).code == 1 and not (tmp_path / "v.jsonl").exists()
    other = unmask(*again, "--normalise")
    assert other.code == 1 and "different: options" in other.err
    done = unmask(*again, "--json")
    assert json.loads(done.out)["rows_found_finished"] == 2
    assert seen[0] == 1 and seen[2:] == [2, 1]  # the empty text has no vector; finished rows are not run again
    assert (tmp_path / "v.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    assert not (tmp_path / "v.jsonl.parts").exists()
    refused = unmask(*again)
    assert refused.code == 1 and "exists already" in refused.err


def test_errors_say_what_to_type(unmask, trained, rows, tmp_path):
    call = ("embed", "--model", trained, "--input", rows, "--device", "cpu", "--field", "body", "--output")
    assert "Choose one of .parquet, .npy, .jsonl" in unmask(*call, tmp_path / "v.bin").err
    assert "use mean" in unmask(*call, tmp_path / "v.npy", "--pooling", "cls", "--special-tokens").err
    (tmp_path / "long.txt").write_text("the cat sees " * 60)
    long = (
        "embed",
        "--model",
        trained,
        "--input",
        tmp_path / "long.txt",
        "--output",
        tmp_path / "l.npy",
        "--device",
        "cpu",
    )
    assert "long.txt:1: A text has" in unmask(*long).err and "--truncate" in unmask(*long).err
    assert unmask(*long, "--truncate").code == 0 and len(np.load(tmp_path / "l.npy")) == 1
