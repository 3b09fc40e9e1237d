"""Input texts of commands: files and standard input share the reader of ``prepare``."""

import io
import json
import sys

import pytest

from unmask.cli.texts import read_standard_input, read_texts
from unmask.data.corpus.sources import Source

LINES = ["the \u2028cat\x85", "a \x0c dog\x1c", "water \u2029"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_files_and_standard_input_are_read_as_by_prepare(tmp_path, monkeypatch, mark, end):
    text = (mark + end.join(LINES) + end).encode()
    (tmp_path / "a.txt").write_bytes(text)
    rows = (mark + end.join(json.dumps({"text": line}, ensure_ascii=False) for line in LINES) + end).encode()
    (tmp_path / "a.jsonl").write_bytes(rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="ascii"))
    assert read_standard_input() == LINES
    for name in ("a.txt", "a.jsonl"):
        assert read_texts(tmp_path / name, "text") == LINES
        assert [d.text for d in Source.parse(tmp_path / name, unit="line").documents()] == LINES


def test_invalid_bytes_on_standard_input_are_located(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good\nb\xe9d\n")))
    with pytest.raises(
        ValueError, match=r"standard input is not UTF-8 text \(line 2, byte 0xe9 at column 2, offset 6\)"
    ):
        read_standard_input()


def test_an_empty_string_in_a_row_is_a_text_and_null_is_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": ""}\n\n{"prompt": null}\n{"prompt": "x"}\n')
    assert read_texts(tmp_path / "a.jsonl", "prompt") == ["", "x"]


def test_a_table_is_not_read_as_lines(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"a\.xlsx is a table"):
        read_texts(tmp_path / "a.xlsx", "text")


def test_score_reads_a_file(unmask, trained, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "the cat"}\n{"text": "the dog"}\n')
    answer = unmask("score", "--input", tmp_path / "a.jsonl", "--model", trained, "--json")
    assert answer.code == 0, answer.err
    assert [row["text"] for row in json.loads(answer.out)["rows"]] == ["the cat", "the dog"]
