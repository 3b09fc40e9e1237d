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
