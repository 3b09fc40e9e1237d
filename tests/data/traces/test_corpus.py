"""A corpus of traces: each function once and on one side, independent of the number of workers, with isolated failures."""

import os
import random
from pathlib import Path

import pytest

pytest.importorskip("capstone")

from tests.data.traces.elves import GOLDEN, Code, write_elf
from unmask.data.corpus.sources import Source
from unmask.data.preparation import prepare
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces import corpus
from unmask.data.traces.binary_files import Candidate, trace_binary
from unmask.data.traces.corpus import disassemble
from unmask.data.traces.split import family, held_out_families
from unmask.data.traces.table import COLUMNS, is_traces, read_traces

NAMES = ["abacus", "bell", "candle", "door", "elm", "fern", "gate", "hill", "ink", "jar", "kite", "lamp"]


def _binary(seed: int) -> bytes:
    """Return two functions of this binary alone and two functions shared by every binary."""
    own = random.Random(seed)
    functions = [Code(f"own{n}", b"\xb8" + own.randbytes(4) + b"\xc3") for n in range(2)]  # mov eax, number; ret
    shared = [Code("shared", bytes.fromhex("31c0c3")), *GOLDEN["x86-64"][:1]]
    return write_elf("x86-64", [*functions, *shared], gap=seed % 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("binaries")
    for seed, name in enumerate(NAMES):
        (root / name).write_bytes(_binary(seed))
    (root / "sub").mkdir()
    (root / "sub" / "arm").write_bytes(write_elf("aarch64", GOLDEN["aarch64"]))
    (root / "copy-2.0").write_bytes(_binary(0))
    (root / "script").write_text("#!/bin/sh\n")
    (root / "broken").write_bytes(_binary(0)[:70])
    (root / "big").write_bytes(_binary(99) + b"\0" * 2**20)
    (root / "link").symlink_to(root / "abacus")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory) -> tuple[Path, corpus.Summary, list[dict]]:
    out = tmp_path_factory.mktemp("out") / "traces.parquet"
    summary = disassemble([folder], out, test_fraction=0.4, megabytes=0.5, workers=1)
    return out, summary, list(read_traces(out))


def test_every_function_is_there_once_and_on_one_side(made):
    _, summary, rows = made
    texts = [row["disassembly"] for row in rows]
    assert len(set(texts)) == len(texts) == summary.functions == 2 * len(NAMES) + 3
    sides = {family(row["binary"]): set() for row in rows}
    for row in rows:
        sides[family(row["binary"])].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert {row["split"] for row in rows} == {"train", "test"}
    assert summary.test_functions == sum(row["split"] == "test" for row in rows)
    shared = {
        r["split"]
        for r in rows
        if r["disassembly"] in ("xor eax eax [NEXT] ret", GOLDEN["x86-64"][0].trace, GOLDEN["aarch64"][0].trace)
    }
    assert "train" in shared  # what both sides have is in the training side
    assert next(r for r in rows if r["disassembly"] == "xor eax eax [NEXT] ret")["split"] == "train"


def test_traces_of_both_sides_are_kept_in_training_only(tmp_path):
    names = ["bell", "candle", "door", "elm"]
    assert held_out_families(names, 0.4, 0) == {"bell", "candle"}, (
        "or the order of names is that of the sides, and this says nothing"
    )
    for seed, name in enumerate(names):
        (tmp_path / name).write_bytes(_binary(seed))
    out = tmp_path / "traces.parquet"
    disassemble([tmp_path / name for name in names], out, test_fraction=0.4, workers=1)
    shared = [
        row["split"]
        for row in read_traces(out)
        if row["disassembly"] in ("xor eax eax [NEXT] ret", GOLDEN["x86-64"][0].trace)
    ]
    assert shared == ["train", "train"]


def test_the_columns_describe_each_function(made, folder):
    _, _, rows = made
    for row in rows:
        assert set(row) == set(COLUMNS)
        traced = trace_binary("x", (folder / row["binary"]).read_bytes())
        function = next(f for f in traced.functions if f.address == row["address"])
        assert (row["architecture"], row["name"], row["bytes"]) == (traced.architecture, function.name, function.code)
        assert (row["disassembly"], row["instructions"], row["undecoded"]) == function.trace


def test_skipped_files_are_counted_with_their_reasons(made):
    _, summary, _ = made
    assert summary.skipped == {
        "not an ELF file": 1,
        "cut off or damaged": 1,
        "larger than 0.5 MiB": 1,
        "not a regular file": 1,
    }
    assert summary.skipped_examples["cut off or damaged"] == "broken"
    assert (
        summary.binaries == len(NAMES) + 2 and summary.files == summary.binaries + 4
    )  # a link is the file it leads to
    found = summary.functions + sum(summary.left_out.values())
    assert summary.functions_found == found == 4 * (len(NAMES) + 1) + 1
    assert summary.left_out == {"duplicates of another": found - summary.functions}


def test_workers_change_nothing(made, folder, tmp_path):
    out, _, rows = made
    disassemble([folder], tmp_path / "two.parquet", test_fraction=0.4, megabytes=0.5, workers=2)
    assert (tmp_path / "two.parquet").read_bytes() == out.read_bytes()
    disassemble([folder], tmp_path / "seed.parquet", test_fraction=0.4, megabytes=0.5, workers=1, seed=1)
    assert [r["split"] for r in read_traces(tmp_path / "seed.parquet")] != [r["split"] for r in rows]


def test_max_instructions_is_a_limit(folder, tmp_path):
    counts = []
    for most in (40, 10**9):
        done = disassemble([folder], tmp_path / "few.parquet", max_instructions=most, workers=1, megabytes=0.5)
        rows = list(read_traces(tmp_path / "few.parquet"))
        assert done.instructions == sum(row["instructions"] for row in rows) <= most
        assert done.functions_found == done.functions + sum(done.left_out.values())
        counts.append(len(rows))
    assert 2 <= counts[0] < counts[1] == 2 * len(NAMES) + 3


def test_max_instructions_selects_functions_by_their_code():
    data = write_elf("x86-64", [Code(f"f{n}", b"\xb8" + bytes([n, 0, 0, 0]) + b"\xc3") for n in range(50)])
    taken = {seed: [f.name for f in trace_binary("x", data, 20, seed).functions] for seed in (0, 1)}
    assert len(taken[0]) == len(taken[1]) == 10 and taken[0] != taken[1]
    assert taken[0] == sorted(taken[0], key=lambda name: int(name[1:]))
    traced = trace_binary("x", data, 20, 0)
    assert traced.instructions < 40 and traced.left_out == {"beyond max_instructions": 40}


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("libssl.so.1.1", "a/libssl.so.3"), True),
        (("python3.11", "python3.12"), True),
        (("ls", "ln"), False),
        (("7", "8"), False),
    ],
)
def test_versions_are_one_family(names, same):
    assert (family(names[0]) == family(names[1])) == same


def test_neither_side_is_empty_whatever_the_fraction():
    for fraction in (1e-9, 0.5, 1 - 1e-9):
        for seed in range(5):
            held_out = held_out_families(NAMES, fraction, seed)
            assert 1 <= len(held_out) < len(NAMES)
    assert held_out_families(["one", "one.2"], 0.5, 0) == set()
    many = [f"n{'x' * n}" for n in range(300)]
    assert 60 < len(held_out_families(many, 0.3, 0)) < 120
    assert held_out_families(many, 0.3, 0) <= held_out_families(many, 0.5, 0) != held_out_families(many, 0.5, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"test_fraction": 0}, "between 0 and 1"), ({"max_instructions": 0}, "at least 1"), ({"workers": 0}, "greater than zero"), ({"seconds": 0}, "greater than zero")],
)  # fmt: skip
def test_invalid_limits_are_explained(folder, tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        disassemble([folder], tmp_path / "x.parquet", **wrong)


def test_without_functions_no_file_is_written(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    with pytest.raises(ValueError, match=r"No function .* 1 not an ELF file \(such as script\)"):
        disassemble([tmp_path / "script"], tmp_path / "out" / "x.parquet", workers=1)
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(ValueError, match=r"no file or folder.*Did you mean"):
        disassemble([tmp_path / "scrip"], tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="Pass it alone"):
        disassemble(["python", str(tmp_path)], tmp_path / "x.parquet")


def test_prepare_keeps_the_split_of_the_file(made, tmp_path):
    out, summary, rows = made
    assert is_traces(out)
    done = prepare(out, tmp_path / "prepared", workers=1)
    assert (done.train_documents, done.valid_documents) == (summary.train_functions, summary.test_functions)
    tokenizer = Tokenizer.load(done.tokenizer)
    assert tokenizer.next_token_id is not None and len(tokenizer.encode("mov 12345 [NEXT]")) > 2
    for side, store in (("train", done.train), ("test", done.valid)):
        tokens = TokenStore.open(store)
        assert tokens.n_documents == sum(row["split"] == side for row in rows)
    assert [d.text for d in Source.parse(f"traces:{out}").documents()] == [row["disassembly"] for row in rows]
    assert Source.parse(out.parent).kind == "parquet" and len(
        list(Source.parse(f"traces:{out.parent}").documents())
    ) == len(rows)


def test_a_single_binary_cannot_be_split(folder, tmp_path):
    disassemble([folder / "bell"], tmp_path / "one.parquet", workers=1)
    with pytest.raises(ValueError, match="one side of its split"):
        prepare(tmp_path / "one.parquet", tmp_path / "prepared", workers=1)


def test_wheels_are_a_source(monkeypatch):
    import numpy

    path = next(iter(sorted((Path(numpy.__file__).parent / "linalg").glob("*umath*.so"))), None)
    if path is None:
        pytest.skip("NumPy's libraries are no .so files here")
    here = [
        Candidate(str(path), f"numpy/{path.name}", path.stat().st_size),
        *(Candidate(str(path), f"other/{n}", 999) for n in NAMES),
    ]
    monkeypatch.setattr(corpus, "wheel_libraries", lambda: here[:2])
    corpus.built_in_rows.cache_clear()
    documents = list(Source.parse("traces:wheels").documents())
    assert len(documents) > 50 and documents[0].name.startswith(("numpy/", "other/"))
    assert Source.parse("traces:wheels").fingerprint() != Source.parse("traces:python").fingerprint()
    corpus.built_in_rows.cache_clear()


def test_the_real_wheels_are_found():
    from unmask.data.traces.wheels import wheel_libraries, wheel_versions

    found = wheel_libraries()
    assert any(c.name.startswith("numpy/") for c in found) and any(c.name.startswith("tokenizers/") for c in found)
    assert found == sorted(found, key=lambda c: c.name) and len({c.name for c in found}) == len(found)
    assert "numpy" in wheel_versions()
    with pytest.raises(ValueError, match=r"no file or folder 'wheel'.*Did you mean 'traces:wheels'"):
        Source.parse("traces:wheel")
