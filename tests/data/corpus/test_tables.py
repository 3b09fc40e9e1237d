"""CSV, TSV, Arrow, FASTA, A3M and ready ids: every record, nothing else, faults with their place."""

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmask.data.corpus.formats import FORMATS, ReadOptions, format_of_file
from unmask.data.corpus.sources import Source
from unmask.data.corpus.text_stream import Input


def texts(kind, data, **options):
    documents = FORMATS[kind].documents(Input("the input", "n", io.BytesIO(data.encode())), ReadOptions(**options))
    return [(d.name, d.text) for d in documents]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_column_of_a_table_under_any_separator(separator, end):
    rows = ["id;text;note", '1;"a; ""quoted"" cell";x', '2;"two', 'lines";', "3;;z", "4;last;"]
    data = end.join(rows).replace(";", separator) + end
    two_lines = "two\r\nlines" if end == "\r\n" else "two\nlines"
    expected = [("n:2", f'a{separator} "quoted" cell'), ("n:3", two_lines), ("n:6", "last")]
    assert texts("csv", data) == expected
    assert separator != "\t" or texts("tsv", data) == expected


@pytest.mark.parametrize("data, message", [
    ("", "no header line"), ("a,b\n1,2\n", "no field 'text'.*It has: a, b"), ("id,text\n1,a,b\n", "line 2, has 3 cells.*names 2 columns"),
    ('id,text\n1,ok\n2,"open\n', "line 3, cannot be read"),
])  # fmt: skip
def test_a_table_that_is_none_says_where(data, message):
    with pytest.raises(ValueError, match=rf"the input.*{message}"):
        texts("csv", data)


def test_a_cell_of_ten_megabytes_is_one_document():
    assert len(texts("csv", f'text\n"{"x" * 10_000_000}"\n')[0][1]) == 10_000_000


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_and_streams(tmp_path, stream):
    table = pa.table({"id": [1, 2, 3], "text": ["one", None, "three"]})
    path = tmp_path / "t.arrow"
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert [(d.name, d.text) for d in Source.parse(path).documents()] == [("t.arrow:0", "one"), ("t.arrow:2", "three")]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="not an Arrow file"):
        list(Source.parse(path).documents())


RECORDS = "; a comment\n>first one\nMKV\nLA T\n\n>second\nMKVLAT\n>empty\n>third\nACDEFG\n"


def test_records_of_fasta_are_documents():
    assert texts("fasta", RECORDS) == [("n:first one", "MKVLAT"), ("n:second", "MKVLAT"), ("n:third", "ACDEFG")]
    assert texts("fasta", RECORDS.replace("\n", "\r\n")) == texts("fasta", RECORDS)
    with pytest.raises(ValueError, match="line 1, is a sequence without a header"):
        texts("fasta", "MKV\n>x\nA\n")


def test_inserts_of_an_alignment_are_kept_or_dropped():
    data = ">wild type\nMK-VL\n>other\nMKabc-VL..\n"
    assert [t for _, t in texts("a3m", data)] == ["MK-VL", "MKabc-VL.."]
    assert [t for _, t in texts("a3m", data, inserts="drop")] == ["MK-VL", "MK-VL"]
    assert [t for _, t in texts("fasta", data, inserts="drop")] == ["MK-VL", "MKabc-VL.."]
    with pytest.raises(ValueError, match="line 3: 'short' has 3 aligned columns, and the first record has 5"):
        texts("a3m", ">a\nMKVLA\n>short\nMKV\n", inserts="drop")


def test_ready_ids_are_decimal_numbers(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[5, 7, 9], [1, 2, -1]]))
    np.save(tmp_path / "stream.npy", np.arange(70_000, dtype=np.uint32))
    assert [d.text for d in Source.parse(tmp_path / "rows.npy").documents()] == ["5 7 9", "1 2"]
    assert [len(d.text.split()) for d in Source.parse(tmp_path / "stream.npy").documents()] == [65_536, 4_464]
    pq.write_table(pa.table({"input_ids": [[3, 4], [5]]}), tmp_path / "ids.parquet")
    assert [d.text for d in Source.parse(tmp_path / "ids.parquet", field="input_ids").documents()] == ["3 4", "5"]
    (tmp_path / "ids.jsonl").write_text('{"input_ids": [3, 4]}\n')
    assert [d.text for d in Source.parse(tmp_path / "ids.jsonl", field="input_ids").documents()] == ["3 4"]
    np.save(tmp_path / "float.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"holds float64 \[3\]"):
        list(Source.parse(tmp_path / "float.npy").documents())
    np.save(tmp_path / "hole.npy", np.array([[5, -1, 9]]))
    with pytest.raises(ValueError, match="row 0, has a negative id before its end"):
        list(Source.parse(tmp_path / "hole.npy").documents())
    with pytest.raises(ValueError, match="text was expected"):
        (tmp_path / "mixed.jsonl").write_text('{"text": [1, "a"]}\n')
        list(Source.parse(tmp_path / "mixed.jsonl").documents())


@pytest.mark.parametrize("name, kind", [
    ("t.csv", "csv"), ("t.tsv", "tsv"), ("p.fasta", "fasta"), ("p.fa.gz", "fasta"), ("p.a3m", "a3m"), ("t.arrow", "arrow"), ("x.npy", "npy"),
])  # fmt: skip
def test_a_file_is_known_by_its_name(tmp_path, name, kind):
    (tmp_path / name).write_bytes(gzip.compress(b">a\nM\n") if name.endswith(".gz") else b">a\nM\n")
    assert format_of_file(tmp_path / name) == kind and Source.parse(tmp_path / name).kind == kind
