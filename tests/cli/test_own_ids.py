"""Ready ids with their own special ids: kept from the array to the export, and everything that prints prints ids."""

import json
import re

import numpy as np
import pytest

import unmask as package
from unmask.data.store.token_store import TokenStore
from unmask.runs import load_run

SIZES = [
    "data.block_size=16", "model.preset=null", "model.d_model=16", "model.num_layers=1", "model.nhead=2", "train.steps=2", "train.batch_size=4",
    "train.evaluate_rows=4",
]  # fmt: skip


def rows():
    """Moves 3 to 19, EOS 2, padding 1 up to 20 ids."""
    for start in range(60):
        moves = [3 + (start + step) % 17 for step in range(8 + start % 5)]
        yield moves + [2] + [1] * (19 - len(moves))


@pytest.fixture(scope="module")
def moves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moves")
    np.save(folder / "moves.npy", np.array(list(rows())))
    with open(folder / "moves.jsonl", "w") as file:
        file.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows())
    return folder


def test_special_ids_are_kept_to_the_export_and_ids_are_printed(unmask, moves, tmp_path):
    store, run, exported = tmp_path / "store", tmp_path / "run", tmp_path / "exported"
    made = unmask(
        "prepare",
        moves / "moves.npy",
        "--vocab-size",
        21,
        "--special-ids",
        "mask: 0, pad: 1, eos: 2",
        "-o",
        store,
        "--valid-fraction",
        0.2,
    )
    assert made.code == 0, made.err
    assert "data.special_ids={mask: 0, pad: 1, eos: 2}" in made.out
    documents = sorted(each.tolist() for part in ("train", "valid") for each in TokenStore.open(store / part))
    assert documents == sorted([id for id in row if id != 1] for row in rows())
    facts = json.loads(unmask("info", store, "--json").out)
    assert (
        facts["tokenizer"]["special"] == {"mask": 0, "pad": 1, "eos": 2, "unk": 20} and facts["tokenizer"]["ids"] == 21
    )
    assert facts["made_from"]["special_ids"] == {"mask": 0, "pad": 1, "eos": 2}
    trained = unmask("train", *SIZES, f"data.store={store}", f"run={run}")
    assert trained.code == 0, trained.err
    loaded = load_run(run)
    assert loaded.tokenizer.mask_token_id == loaded.model.mask_idx == 0 and len(loaded.tokenizer) == 21
    assert unmask("export", run, "-o", exported).code == 0
    model = package.load(exported)
    assert (model.tokenizer.mask_token_id, model.tokenizer.pad_token_id, model.tokenizer.eos_token_id) == (0, 1, 2)
    for answer in (
        unmask("fill", "5 [MASK] 7", "--model", run),
        unmask("generate", "--prompt", "5 6 7", "--new-tokens", 4, "--model", run),
        unmask("score", "5 6 7", "--model", run),
    ):
        assert answer.code == 0, answer.err
        assert re.search(r"(?<!\S)5 \d{1,2} 7(?!\S)", answer.out), answer.out
    assert unmask("evaluate", "--model", run, "--samples", 1).code == 0


def test_a_config_has_special_ids_and_a_run_resumes(unmask, moves, tmp_path):
    keys = [
        *SIZES, f"data.source={moves / 'moves.jsonl'}", "data.field=input_ids", "data.vocab_size=21", "data.valid_fraction=0.2",
        "data.special_ids={mask: 0, pad: 1, eos: 2}", f"run={tmp_path / 'run'}",
    ]  # fmt: skip
    for steps in (2, 3):
        answer = unmask("train", *keys, f"train.steps={steps}")
        assert answer.code == 0, answer.err
    assert load_run(tmp_path / "run").tokenizer.all_special_ids == [0, 1, 2, 20]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--special-ids", "mask"], "is no list of roles and ids"),
        (["--special-ids", "mask: 25"], "from 0 to 19"),
        (["--special-ids", "mask: 0, pad: 1, eos: 2", "--tokenizer", "words"], "special_ids are those of ready ids"),
        (["--special-ids", "mask: 5, pad: 1, eos: 2"], "the id 5, which is the mask"),
    ],
)
def test_bad_special_ids(unmask, moves, tmp_path, options, words):
    answer = unmask("prepare", moves / "moves.npy", "--vocab-size", 20, "-o", tmp_path / "store", *options)
    assert answer.code == 1 and words in answer.err
