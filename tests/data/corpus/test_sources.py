"""Sources: every format yields its documents once and in order, and errors name the remedy."""

import gzip
import json
import lzma
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmask.data.corpus import sections
from unmask.data.corpus.sources import Source

TEXTS = ["one é", "two\nlines", "three [MASK]"]


def texts(source, **options):
    return [document.text for document in Source.parse(source, **options).documents()]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_units_of_a_text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n\r\n \r\nthree\n".encode())
    assert texts(path, unit="file") == ["one\ntwo\n\n \nthree"]
    assert texts(path, unit="paragraph") == ["one\ntwo", "three"]
    assert texts(path, unit="line") == ["one", "two", "three"]
    assert texts(path) == ["one\ntwo\n\n \nthree"]


def test_sections_gather_paragraphs_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sections, "SECTION_CHARACTERS", 40)
    monkeypatch.setattr(sections, "LARGEST_SECTION", 100)
    whole = "\n\n".join(f"paragraph {i} with words" for i in range(12)) + "\n\n" + "long " * 60
    (tmp_path / "a.txt").write_text(whole)
    found = texts(tmp_path / "a.txt")
    assert [len(text) >= 40 and text.startswith("paragraph") for text in found[:6]] == [True] * 6
    assert max(map(len, found)) < 200
    assert "".join(found).replace("\n", "") == whole.replace("\n", "")


def test_wiki_titles_begin_documents_and_subtitles_and_length_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(sections, "SECTION_CHARACTERS", 10)
    path = tmp_path / "wiki.txt"
    path.write_text(" \n = First = \n \n Words . \n \n = = Part = = \n \n More . \n \n = Second = \n \n End . \n")
    found = texts(path)
    assert [text.split("\n")[0] for text in found if text.strip()] == [" = First = ", " = Second = "]
    assert "= = Part = =" in found[0]


@pytest.mark.parametrize("opener, suffix", [(gzip.open, ".gz"), (lzma.open, ".xz")])
def test_compressed_files_read_like_plain_ones(tmp_path, opener, suffix):
    with opener(tmp_path / f"a.txt{suffix}", "wt") as file:
        file.write("one\n\ntwo")
    assert texts(tmp_path / f"a.txt{suffix}", unit="paragraph") == ["one", "two"]
    with opener(tmp_path / f"a.jsonl{suffix}", "wt") as file:
        file.write('{"text": "three"}\n')
    assert texts(tmp_path / f"a.jsonl{suffix}") == ["three"]
    whole = (tmp_path / f"a.txt{suffix}").read_bytes()
    (tmp_path / f"a.txt{suffix}").write_bytes(whole[:-6])
    with pytest.raises(ValueError, match="cannot be decompressed"):
        texts(tmp_path / f"a.txt{suffix}")


def test_a_folder_is_its_files_sorted_one_document_each(tmp_path):
    for name in ("b/two.md", "a.txt", "c.rst", ".hidden/no.txt", "ignored.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of\n\n{name}")
    found = list(Source.parse(tmp_path).documents())
    assert [document.name for document in found] == ["a.txt", "b/two.md", "c.rst"]
    assert found[0].text == "text of\n\na.txt"
    assert len(texts(tmp_path, unit="paragraph")) == 6


def test_a_folder_without_known_names_is_read_as_text(tmp_path):
    (tmp_path / "b.py").write_text("b = 2")
    (tmp_path / "a.py").write_text("a = 1")
    assert texts(tmp_path) == ["a = 1", "b = 2"]


def test_jsonl_and_parquet_and_datasets_yield_the_same_texts(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"id": i, "body": text} for i, text in enumerate([*TEXTS, None, ""])]
    write_jsonl(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "splits")
    for name, split in (("a.jsonl", "train"), ("a.parquet", "train"), ("saved", "train"), ("splits", "test")):
        assert texts(tmp_path / name, field="body", split=split) == TEXTS, name
        with pytest.raises(ValueError, match=r"no field 'bodi'.*'body'.*id, body"):
            texts(tmp_path / name, field="bodi", split=split)
        with pytest.raises(ValueError, match="text was expected"):
            texts(tmp_path / name, field="id", split=split)
    with pytest.raises(ValueError, match="no split 'train'; it has test"):
        texts(tmp_path / "splits", field="body")


def test_a_surrogate_half_from_json_becomes_the_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud800y \\ud83d\\ude00"}\n')
    assert texts(tmp_path / "a.jsonl") == ["x\ufffdy 😀"]


@pytest.mark.parametrize("line, message", [
    ('{"text": "cut', r"line 3, is not valid JSON"),
    ('["a list"]', r"line 3, holds a list"),
    ('{"txt": "x"}', r"line 3, has no field 'text'.*'txt'"),
])  # fmt: skip
def test_a_bad_json_line_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        texts(tmp_path / "a.jsonl")


def test_bytes_that_are_not_utf8_are_located(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x\n" * 9000 + "caf\u00e9".encode("latin1") + b"\n")
    with pytest.raises(ValueError, match=r"not UTF-8 text \(line 9001, byte 0xe9 at column 4, offset 18003\)"):
        texts(tmp_path / "a.txt")


def test_a_damaged_parquet_file_is_explained(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match="not a Parquet file"):
        texts(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_an_empty_corpus_is_refused(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "folder"):
        with pytest.raises(ValueError, match="is empty"):
            texts(path)


def test_error_messages_suggest_near_names(tmp_path):
    (tmp_path / "articles.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no file or folder.*articles\.txt"):
        Source.parse(tmp_path / "artcles.txt")
    with pytest.raises(ValueError, match="'python-docs'"):
        Source.parse("pyton-docs")
    with pytest.raises(ValueError, match=r"no built-in corpus.*'python-code'"):
        Source.parse("builtin:python-cod")
    with pytest.raises(ValueError, match="'paragraph'"):
        Source.parse("python-docs", unit="paragraf")
    source = Source.parse(tmp_path / "articles.txt")
    (tmp_path / "articles.txt").unlink()
    with pytest.raises(ValueError, match="no file or folder"):
        list(source.documents())


def test_kinds_are_guessed_unless_a_prefix_selects_one(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    write_jsonl(tmp_path / "b.jsonl", [{"text": "y"}])
    with pytest.raises(ValueError, match=r"mixes jsonl and text.*`jsonl:"):
        Source.parse(tmp_path)
    assert texts(f"jsonl:{tmp_path}") == ["y"]
    assert texts(f"text:{tmp_path}") == ["x"]
    assert Source.parse("owner/name").kind == "hub"
    assert Source.parse("hub:owner/name:part").subset == "part"
    assert Source.parse("python-docs").kind == "builtin"
    with pytest.raises(ValueError, match="no file or folder"):
        Source.parse("owner/name.txt")


def test_hub_datasets_are_streamed_and_their_absence_is_explained(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(*args, **kwargs):
        asked.append((args, kwargs))
        return iter([{"text": text} for text in TEXTS])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert texts("hub:owner/name:part", split="valid") == TEXTS
    assert asked == [(("owner/name", "part"), {"split": "valid", "streaming": True})]

    def offline(*args, **kwargs):
        raise ConnectionError("cannot reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ValueError, match=r"could not be opened \(cannot reach the hub\)"):
        texts("owner/name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'unmask\[hub\]'"):
        texts("owner/name")


def test_a_fingerprint_follows_the_text_and_the_way_it_is_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = Source.parse(path).fingerprint()
    assert first == Source.parse(path).fingerprint()
    assert first != Source.parse(path, unit="line").fingerprint()
    path.write_text("other")
    assert first != Source.parse(path).fingerprint()
    assert Source.parse("python-docs").fingerprint() != Source.parse("python-code").fingerprint()


def test_a_suggestion_is_similar_in_spelling():
    from unmask.suggestions import nearest

    assert (
        nearest("/some/folder/corpus.txt", ["/some/folder/corpsu.txt", "/some/folder/notes"])
        == " Did you mean '/some/folder/corpsu.txt'?"
    )
    assert nearest("/some/long/folder/corpus.txt", ["/some/long/folder/readme.md"]) == ""
    assert nearest("wheel", ["traces:wheels", "python"]) == " Did you mean 'traces:wheels'?"
