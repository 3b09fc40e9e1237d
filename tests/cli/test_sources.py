"""Options for the source of text: ``--field``, ``--split``, ``--valid-source``, ``--unit``, ``--workers``."""

import json

import datasets
import pytest

TEXTS = [f"the cat sees stone number {i}." for i in range(40)]

pytestmark = pytest.mark.filterwarnings("ignore:.* of the bytes of .* are held out")  # corpora of a few lines


@pytest.fixture
def saved(tmp_path):
    """A data set on disk whose splits and fields hold different texts."""
    rows = {"train": TEXTS, "test": TEXTS[:25]}
    folder = tmp_path / "saved"
    datasets.DatasetDict(
        {
            name: datasets.Dataset.from_list([{"text": t, "upper": t.upper() * 2} for t in texts])
            for name, texts in rows.items()
        }
    ).save_to_disk(folder)
    return folder


def test_prepare_reads_the_given_field_and_split(unmask, saved, tmp_path):
    def sizes(name, *options):
        answer = unmask("prepare", saved, "--out", tmp_path / name, "--vocab-size", 300, "--json", *options)
        assert answer.code == 0, answer.err
        facts = json.loads(answer.out)
        return facts["train_documents"] + facts["valid_documents"], facts["train_bytes"] + facts["valid_bytes"]

    documents, size = sizes("default")
    assert documents == 40
    assert sizes("field", "--field", "upper") == (40, 2 * size)
    assert sizes("split", "--split", "test")[0] == 25


def test_evaluate_reads_the_given_field_and_split(unmask, trained, saved):
    def read(*options):
        answer = unmask(
            "evaluate", "--model", trained, "--data", saved, "--samples", 1, "--no-baselines", "--json", *options
        )
        assert answer.code == 0, answer.err
        bound = json.loads(answer.out)["models"]["trained"]
        return bound["documents"], bound["tokens"]

    documents, tokens = read()
    assert documents == 40
    assert read("--split", "test")[0] == 25
    assert read("--field", "upper")[1] > tokens


def test_a_separate_validation_source_is_used_completely(unmask, tmp_path):
    for name, texts in (("train", TEXTS), ("valid", TEXTS[:7])):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts))
    options = ("--unit", "line", "--vocab-size", 300, "--json")
    answer = unmask(
        "prepare", tmp_path / "train.txt", "--valid-source", tmp_path / "valid.txt", "--out", tmp_path / "out", *options
    )
    facts = json.loads(answer.out)
    assert (facts["train_documents"], facts["valid_documents"]) == (40, 7)


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_workers_change_no_byte(unmask, tmp_path, command):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS))
    found = []
    for workers in (1, 2):
        out = tmp_path / f"{command}-{workers}"
        if command == "prepare":
            answer = unmask(
                "prepare",
                tmp_path / "text.txt",
                "--unit",
                "line",
                "--out",
                out,
                "--vocab-size",
                300,
                "--workers",
                workers,
            )
        else:
            sizes = (
                "model.preset=null",
                "model.d_model=8",
                "model.num_layers=1",
                "model.nhead=2",
                "train.batch_size=2",
                "train.steps=1",
            )
            data = (
                f"data.source={tmp_path / 'text.txt'}",
                "data.unit=line",
                "data.vocab_size=300",
                "data.block_size=16",
                f"data.store={out}",
            )
            answer = unmask("train", *sizes, *data, f"run={tmp_path / f'run-{workers}'}", "--workers", workers)
        assert answer.code == 0, answer.err
        found.append({str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert found[0] == found[1]
    refused = unmask("prepare", tmp_path / "text.txt", "--unit", "line", "--out", tmp_path / "none", "--workers", 0)
    assert refused.code == 1 and "workers" in refused.err


def test_the_config_names_the_field_of_a_source(unmask, saved, tmp_path):
    sizes = (
        "model.preset=null",
        "model.d_model=8",
        "model.num_layers=1",
        "model.nhead=2",
        "train.batch_size=2",
        "train.steps=1",
    )
    for field in ("text", "upper"):
        store = tmp_path / field
        data = (
            f"data.source={saved}",
            f"data.field={field}",
            "data.vocab_size=300",
            "data.block_size=16",
            f"data.store={store}",
        )
        answer = unmask("train", *sizes, *data, f"run={tmp_path / f'run-{field}'}")
        assert answer.code == 0, answer.err
    bytes_of = [
        json.loads((tmp_path / field / "prepared.json").read_text())["train_bytes"] for field in ("text", "upper")
    ]
    assert bytes_of[1] > 1.5 * bytes_of[0]


def test_proteins_from_an_alignment_to_a_filled_residue(unmask, tmp_path):
    """``--inserts`` and a kind of ``--tokenizer``; the store then stands for itself, and rows hold one sequence each."""
    records = [f">s{i}\nMKV{'LIVF'[i % 4]}a.c{'DE'[i % 2]}GG\n" for i in range(60)]
    (tmp_path / "family.a3m").write_text("".join(records))
    store = tmp_path / "store"
    made = unmask("prepare", tmp_path / "family.a3m", "--tokenizer", "characters", "--inserts", "drop", "--out", store)
    assert made.code == 0 and "data.inserts=drop" in made.out and "data.tokenizer=characters" in made.out, made.err
    small = ["model.preset=null", "model.d_model=16", "model.num_layers=1", "model.nhead=2", "model.max_length=32"]
    run = tmp_path / "run"
    trained = unmask(
        "train", f"data.store={store}", f"run={run}", "data.rows=document", "data.block_size=12", "train.steps=2",
        "train.batch_size=4", "train.evaluate_rows=4", *small,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    filled = unmask("fill", "MKV[MASK]DGG", "--model", run, "--jsonl")
    assert filled.code == 0 and len(json.loads(filled.out)["text"]) == 7, filled.err
    other = unmask("train", f"data.store={store}", f"run={tmp_path / 'other'}", "data.inserts=keep")
    assert other.code == 1 and "data.inserts (made with 'drop', now 'keep')" in other.err


def test_ready_ids_train_and_print_as_ids(unmask, tmp_path):
    rows = [{"input_ids": [(i + j) % 20 for j in range(12)]} for i in range(60)]
    (tmp_path / "ids.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run, store = tmp_path / "run", tmp_path / "store"
    made = unmask(
        "prepare", tmp_path / "ids.jsonl", "--field", "input_ids", "--tokenizer", "ids", "--vocab-size", 25, "--out", store
    )  # fmt: skip
    assert made.code == 0, made.err
    small = ["model.preset=null", "model.d_model=16", "model.num_layers=1", "model.nhead=2", "model.max_length=32"]
    options = ["data.block_size=16", "train.steps=2", "train.batch_size=4", "train.evaluate_rows=4"]
    assert unmask("train", f"data.store={store}", f"run={run}", *options, *small).code == 0
    text = json.loads(unmask("fill", "3 [MASK] 5", "--model", run, "--jsonl").out)["text"].split()
    assert text[0] == "3" and text[2] == "5" and 0 <= int(text[1]) < 20
    beyond = unmask(
        "prepare", tmp_path / "ids.jsonl", "--field", "input_ids", "--tokenizer", "ids", "--vocab-size", 20, "--out", tmp_path / "b"
    )  # fmt: skip
    assert beyond.code == 1 and "whole numbers from 0 to 14" in beyond.err
