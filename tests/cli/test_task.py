"""`unmask task` writes rows that train and scores a run; `unmask score --mutants` and alignments, from file to figure."""

import json
import random

import numpy as np
import pytest

from unmask.build.run import train
from unmask.config.tree import load_config
from unmask.data.identity import weights_of_rows

TINY = ["model.d_model=16", "model.num_layers=1", "model.nhead=2", "train.steps=2", "train.batch_size=4", "train.evaluate_rows=4",
        "train.logger=none", "train.precision=fp32", "model.preset=null"]  # fmt: skip


def test_rows_train_and_a_run_is_scored(unmask, tmp_path):
    wrote = unmask("task", "sudoku4", "--out", tmp_path / "rows", "--rows", 40, "--seed", 1, "--set", "clues=8")
    assert wrote.code == 0 and "--score runs/sudoku4" in wrote.out, wrote.err
    assert "data.augment" not in wrote.out and "augment: sudoku" in (tmp_path / "rows" / "config.yaml").read_text()
    train(load_config(str(tmp_path / "rows" / "config.yaml"), [*TINY, f"run={tmp_path / 'run'}"]))
    scored = unmask("task", "sudoku4", "--score", tmp_path / "run", "--rows", 5, "--order", "random", "--json")
    found = json.loads(scored.out)
    assert found["rows"] == 5 and found["forward_passes"] == 8 and found["exact"]["low"] == 0.0
    (tmp_path / "published.csv").write_text("puzzle,solution\n1234341221434320,1234341221434321\n")
    one = unmask("task", "sudoku4", "--score", tmp_path / "run", "--source", tmp_path / "published.csv", "--json")
    assert json.loads(one.out)["rows"] == 1 and json.loads(one.out)["forward_passes"] == 1
    report = unmask("evaluate", "--model", tmp_path / "run", "--json", "--documents", 3)
    assert json.loads(report.out)["answers"]["tokens"] == 3 * 8  # every blank, not only the last run of blanks
    refused = unmask("task", "sudoku4")
    assert refused.code == 1 and "Give one of --out" in refused.err
    assert "no task 'sudoku'" in unmask("task", "sudoku", "--out", tmp_path / "x").err


def test_a_chain_is_scored_against_its_entropy(unmask, tmp_path):
    unmask("task", "markov_chain", "--out", tmp_path / "rows", "--rows", 70, "--set", "length=12", "--set", "states=3")
    train(load_config(str(tmp_path / "rows" / "config.yaml"), [*TINY, f"run={tmp_path / 'run'}"]))
    settings = ["--set", "length=12", "--set", "states=3"]
    found = json.loads(
        unmask("task", "markov_chain", "--score", tmp_path / "run", "--rows", 9, *settings, "--json").out
    )
    gap = found["bits_per_token"]["value"] - found["exact_bits_per_token"]["value"]
    assert found["excess_bits_per_token"]["value"] == pytest.approx(gap) and gap > 0


@pytest.fixture(scope="module")
def protein(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("protein"), random.Random(0)
    wild = "ACDEFGHIKLMNPQRSTVWY"
    rows = ["".join("-" if draw.random() < 0.2 else c for c in wild) for _ in range(40)]
    (folder / "family.a3m").write_text("".join(f">{n}\n{row}\n" for n, row in enumerate([wild, *rows])))
    keys = [f"data.source={folder / 'family.a3m'}", "data.inserts=drop", "data.tokenizer=characters", "data.rows=document", "data.block_size=21",
            "data.valid_fraction=0.2", "data.identity_weights=0.8", "objective.never_masked=-", f"run={folder / 'run'}"]  # fmt: skip
    train(load_config(overrides=[*TINY, *keys]))
    return folder, wild, keys


def test_mutants_of_an_alignment(unmask, protein, tmp_path):
    folder, wild, keys = protein
    (tmp_path / "m.csv").write_text("mutant,DMS_score\nA1C,1\nC2D:D3A,0.5\nE4A,0.1\nF5A,\n")
    options = ["--model", folder / "run", "--mutants", tmp_path / "m.csv", "--heat-map", tmp_path / "map.png"]
    found = json.loads(unmask("score", *options, "--wild-type", wild, "--json").out)
    assert found["measured"] == 3 and len(found["rows"]) == 4 and (tmp_path / "map.png").stat().st_size > 1000
    printed = unmask("score", *options, "--wild-type", folder / "family.a3m")
    assert "Spearman" in printed.out, printed.err
    assert "no column mutated_sequence" in unmask("score", *options).err
    assert "for --mutants" in unmask("score", "x", "--wild-type", wild).err
    single = json.loads(unmask("evaluate", "--model", folder / "run", "--single", "--no-baselines", "--json").out)
    assert single["single_masked"]["tokens"] == single["models"]["trained"]["tokens"]  # gaps are in neither
    with pytest.raises(ValueError, match=r"data\.rows=document"):
        train(load_config(overrides=[*TINY, *keys[:3], "data.identity_weights=0.8", f"run={tmp_path / 'run'}"]))


def test_weights_count_near_copies():
    rows = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 0, 0], [7, 7, 7, 7, 7]])
    assert weights_of_rows(rows, 0.8, gap=0).tolist() == [0.5, 0.5, 1 / 3, 1.0]
    assert weights_of_rows(rows, 1.0, gap=0).tolist() == [1.0, 1.0, 1 / 3, 1.0]
