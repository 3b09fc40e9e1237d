"""The file of traces is checked when read and written atomically."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmask.data.traces.table import COLUMNS, TraceRow, is_traces, read_traces, write_traces

ROWS = [
    TraceRow("x86-64", "b", f"f{n}", n, b"\xc3", 1, 0, f"mov eax {n} [NEXT] ret", "train" if n else "test")
    for n in range(3)
]


@pytest.fixture
def made(tmp_path):
    with write_traces(tmp_path / "t.parquet") as writer:
        writer.write(ROWS[:1])
        writer.write(ROWS[1:])
    return tmp_path / "t.parquet"


def test_rows_survive_writing_and_reading(made):
    assert [TraceRow(**row) for row in read_traces(made)] == ROWS
    assert [set(row) for row in read_traces(made, ["name"])] == [{"name", "split"}] * 3
    assert is_traces(made)


def test_many_rows_are_several_groups(monkeypatch, tmp_path):
    monkeypatch.setattr("unmask.data.traces.table._GROUP_CHARACTERS", 40)
    with write_traces(tmp_path / "t.parquet") as writer:
        writer.write(ROWS)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2
    assert [TraceRow(**row) for row in read_traces(tmp_path / "t.parquet")] == ROWS


def test_a_failed_write_keeps_the_old_file(made):
    before = made.read_bytes()
    with pytest.raises(RuntimeError), write_traces(made) as writer:
        writer.write(ROWS[:1])
        raise RuntimeError
    assert made.read_bytes() == before and list(made.parent.iterdir()) == [made]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["bytes"]), "no column 'bytes'"),
        (lambda t: t.rename_columns(["arch", *t.column_names[1:]]), "no column 'architecture'"),
        (
            lambda t: t.set_column(3, "address", pa.array(["a", "b", "c"])),
            "'address' holds string, and uint64 was expected",
        ),
        (
            lambda t: t.set_column(8, "split", pa.array(["train", "valid", "test"])),
            "row 1: .* 'valid' where train or test",
        ),
        (lambda t: t.set_column(7, "disassembly", pa.array(["ret", None, "ret"])), "row 1: a field is empty"),
    ],
)
def test_wrong_columns_are_explained(made, change, said):
    pq.write_table(change(pq.read_table(made)), made)
    with pytest.raises(ValueError, match=said):
        list(read_traces(made))


def test_equivalent_column_types_are_read(made):
    table = pq.read_table(made)
    table = table.set_column(8, "split", table["split"].dictionary_encode()).set_column(
        7, "disassembly", table["disassembly"].cast(pa.large_string())
    )
    pq.write_table(table, made)
    assert [row["disassembly"] for row in read_traces(made)] == [row.disassembly for row in ROWS]


def test_files_that_are_not_parquet_are_explained(tmp_path):
    (tmp_path / "t.parquet").write_text("nothing")
    assert not is_traces(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="unmask disassemble"):
        list(read_traces(tmp_path / "t.parquet"))


def test_the_columns_are_those_of_a_row():
    assert TraceRow._fields == tuple(COLUMNS)
