"""``unmask disassemble`` on the command line."""

import json
import sys

import pytest

pytest.importorskip("capstone")

from tests.data.traces.elves import GOLDEN, write_elf
from unmask.data.traces.table import read_traces


@pytest.fixture
def binaries(tmp_path):
    (tmp_path / "in").mkdir()
    for architecture, golden in GOLDEN.items():
        (tmp_path / "in" / f"of-{architecture}").write_bytes(write_elf(architecture, golden))
    (tmp_path / "in" / "notes.txt").write_text("no binary")
    return tmp_path / "in"


def test_the_summary_counts_files_and_functions(unmask, binaries, tmp_path):
    out = tmp_path / "t.parquet"
    answer = unmask("disassemble", binaries, "-o", out, "--workers", 1)
    assert answer.code == 0 and f"data.source={out}" in answer.out
    for said in ("functions written", "skipped: not an ELF file, such as notes.txt"):
        assert said in answer.out
    assert "disassembling files: 3 done" in answer.err
    assert {row["disassembly"] for row in read_traces(out)} == {g.trace for golden in GOLDEN.values() for g in golden}


def test_json_output_parses(unmask, binaries, tmp_path):
    answer = unmask(
        "disassemble", binaries, "-o", tmp_path / "t.parquet", "--json", "--workers", 1, "--test-fraction", 0.5
    )
    said = json.loads(answer.out)
    assert said["functions"] == 4 == said["train_functions"] + said["test_functions"] and said["skipped"] == {
        "not an ELF file": 1
    }


def test_limits_are_kept(unmask, binaries, tmp_path):
    out = tmp_path / "t.parquet"
    (binaries / "large").write_bytes(write_elf("x86", GOLDEN["x86"]) + b"\0" * 2**20)

    def run(*options):
        return json.loads(unmask("disassemble", binaries, "-o", out, "--json", "--workers", 1, *options).out)

    done = run("--megabytes", 0.5, "--max-instructions", 30, "--seconds", 9)
    assert done["skipped"] == {"larger than 0.5 MiB": 1, "not an ELF file": 1} and 0 < done["instructions"] <= 30
    splits = [
        [row["split"] for row in read_traces(out)] for seed in (0, 1, 2) if run("--seed", seed, "--test-fraction", 0.5)
    ]
    assert len(set(map(str, splits))) > 1
    answer = unmask("disassemble", binaries, "-o", out, "--seconds", 0)
    assert answer.code == 1 and "greater than zero" in answer.err


def test_errors_explain_the_remedy(unmask, binaries, tmp_path, monkeypatch):
    answer = unmask("disassemble", binaries / "notes.txt", "-o", tmp_path / "t.parquet")
    assert answer.code == 1 and "No function was found" in answer.err and not (tmp_path / "t.parquet").exists()
    answer = unmask("disassemble", binaries / "missing", "-o", tmp_path / "t.parquet")
    assert answer.code == 1 and "There is no file or folder" in answer.err
    monkeypatch.setitem(sys.modules, "capstone", None)
    answer = unmask("disassemble", binaries, "-o", tmp_path / "t.parquet")
    assert answer.code == 1 and "pip install 'unmask[traces]'" in answer.err and "capstone" in answer.err
