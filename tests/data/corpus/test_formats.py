r"""Formats: JSON lines end only at ``\n``, null rows are skipped, suffixes denote formats, and anyone can register one."""

import csv
import io
import json
from pathlib import Path

import pytest

from unmask.data.corpus.formats import (
    FORMATS,
    NOT_PROSE,
    ReadOptions,
    format_of,
    formats_table,
    has_suffix,
    kinds,
    not_prose,
    register_format,
    suffix_of,
)
from unmask.data.corpus.sources import Source
from unmask.data.corpus.text_stream import COMPRESSED, Input
from unmask.data.document import Document

ODD = "a\u2028b\u2029c\x85d\u000be\u000cf\u001cg"


def documents(kind, data, **options):
    return list(FORMATS[kind].documents(Input("the input", "n", io.BytesIO(data)), ReadOptions(**options)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n \n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_lines_keep_every_character(end, mark):
    rows = [ODD.translate({c: None for c in range(32)}), "two", ODD]
    written = [
        json.dumps({"text": rows[0]}, ensure_ascii=False),
        json.dumps({"text": "two"}),
        json.dumps({"text": ODD}),
    ]
    data = (mark + end.join(written) + end).encode()
    assert [d.text for d in documents("jsonl", data)] == rows
    assert [d.text for d in documents("jsonl", data[: -len(end)])] == rows


def test_a_carriage_return_inside_a_json_object_does_not_end_the_line():
    found = documents("jsonl", b'{"text":\r"one"}\r\n{"text": "two"}\n')
    assert [(d.name, d.text) for d in found] == [("n:1", "one"), ("n:2", "two")]


def test_the_text_of_a_row_is_unchanged():
    assert [d.text for d in documents("jsonl", b'{"text": "a\\r\\nb\\n"}\n{"text": null}\n{"text": ""}\n')] == [
        "a\r\nb\n",
        "",
    ]


@pytest.mark.parametrize("line, message", [
    ('{"text": "x"} {"text": "y"}', "not valid JSON"), ('{"text": ' + "9" * 5000 + "}", "cannot be read as JSON"),
    ('{"text": ' + "[" * 200_000, "JSON"), ("7", "holds a int"), ('{"txt": 1}', "no field 'text'.*Write it so"), ('{"text": 1}', "holds int.*Write it so"),
])  # fmt: skip
def test_an_invalid_line_is_named(line, message):
    with pytest.raises(ValueError, match=rf"the input, line 4.*{message}"):
        documents("jsonl", ('{"text": "x"}\n\r\n{"text": "\u2028"}\n' + line + "\n").encode(), advice="Write it so.")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_text_end_at_line_ends_alone(end):
    data = (end.join(["one \u2028\x85\x0c\x1c\x0b", "", "two"]) + end).encode()
    found = documents("text", data, unit="line")
    assert [(d.name, d.text) for d in found] == [("n:1", "one \u2028\x85\x0c\x1c\x0b"), ("n:2", ""), ("n:3", "two")]


def test_documents_are_named_by_the_line_they_begin_on():
    assert [d.name for d in documents("text", b"a\nb\n\n\nc\n\nd\n", unit="paragraph") if d.text] == [
        "n:1",
        "n:5",
        "n:7",
    ]


def test_every_format_is_known_by_its_suffixes():
    for name, format in FORMATS.items():
        for suffix in format.suffixes:
            owner = next(other for other, each in FORMATS.items() if suffix in each.suffixes)  # traces are Parquet too
            assert format_of(Path(f"x{suffix}")) == owner and not_prose(Path(f"x{suffix}")) is None
            for end in COMPRESSED:
                assert has_suffix(Path(f"x{suffix}{end}"), format) == format.compressed
                assert format_of(Path(f"x{suffix}{end}")) == (name if format.compressed else None)
    assert not {s for f in FORMATS.values() for s in f.suffixes} & set(NOT_PROSE)


class Ssv:
    description = "a row, the text in a column"
    suffixes = (".ssv",)
    compressed = False

    def recognises(self, path):
        return True

    def documents(self, source, options):
        with open(source.path, newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                yield Document(f"{source.name}:{number}", row[options.field])


@pytest.fixture
def ssv_format():
    register_format("ssv", Ssv())
    yield
    del FORMATS["ssv"]


def test_a_registered_format_is_read_like_any_other(tmp_path, ssv_format):
    file = tmp_path / "reviews.ssv"
    file.write_text("text,stars\nGood.,5\nBad.,1\n")
    for source in (file, tmp_path, f"ssv:{file}"):
        assert Source.parse(source).kind == "ssv"
        assert [d.text for d in Source.parse(source).documents()] == ["Good.", "Bad."]
    assert "ssv" in kinds() and "| `ssv` | `.ssv` | no | a row" in formats_table()
    with pytest.raises(ValueError, match=r"kinds are: .*ssv"):
        Source("cvs", str(file))
    with pytest.raises(ValueError, match=r"\.ssv\)"):
        Source.parse(str(tmp_path / "missing"))


def test_the_content_decides_between_formats_with_one_suffix(tmp_path):
    class Notes(Ssv):
        suffixes = (".txt",)

        def recognises(self, path):
            return path.read_text().startswith("text,")

    (tmp_path / "a.txt").write_text("text\n")
    (tmp_path / "b.txt").write_text("text,stars\n")
    register_format("notes", Notes())
    try:
        assert [Source.parse(tmp_path / name).kind for name in ("a.txt", "b.txt")] == ["text", "notes"]
    finally:
        del FORMATS["notes"]


@pytest.mark.parametrize(
    "name, suffix", [("text", ".new"), ("hub", ".new"), ("a b", ".new"), ("new", "new"), ("new", ".New")]
)
def test_formats_with_impossible_names_are_refused(name, suffix):
    format = Ssv()
    format.suffixes = (suffix,)
    with pytest.raises(ValueError, match=r"registered as|suffix"):
        register_format(name, format)
    assert "new" not in FORMATS


def test_the_page_of_formats_shows_the_registry():
    page = Path(__file__).parents[3] / "docs" / "formats.md"
    assert formats_table() in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a.xlsx", "a.XLSX", "a.fastq.gz", "a.tar.gz", "a.sto", "a.pdf", "a.npz"])
def test_suffixes_that_are_not_prose(name):
    assert not_prose(Path(name)) and format_of(Path(name)) is None


def test_suffixes_include_that_of_compression():
    assert [suffix_of(Path(n)) for n in ("a", "a.txt", "a.tar.GZ", "a.zst", "b.c/a.jsonl.zst")] == [
        "",
        ".txt",
        ".tar.gz",
        ".zst",
        ".jsonl.zst",
    ]
