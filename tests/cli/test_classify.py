"""``unmask classify``: train on every format, predict, scores of held-out rows, errors that leave nothing behind."""

import csv
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.export.test_fine_tuning import sentences, word_counts


@pytest.fixture(scope="module")
def rows():
    """Texts whose label is the order of their words, and words with a tag each: the first animal is the one who sees."""
    texts, labels = sentences(220, 0)
    found = []
    for number, (text, label) in enumerate(zip(texts, labels.tolist(), strict=True)):
        words = text.removesuffix(".").split()
        verb = next(i for i, word in enumerate(words) if word in ("sees", "finds", "likes"))
        tags = ["verb" if i == verb else "who" if i < verb else "whom" for i in range(len(words))]
        found.append({"id": number, "text": text, "label": ["other", "cat"][label], "words": words, "tags": tags})
    return found


@pytest.fixture(scope="module")
def files(rows, tmp_path_factory):
    home = tmp_path_factory.mktemp("rows")
    plain = [{name: row[name] for name in ("id", "text", "label")} for row in rows]
    with open(home / "train.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, plain[0])
        writer.writeheader()
        writer.writerows(plain[:160])
    (home / "train.tsv").write_text((home / "train.csv").read_text().replace(",", "\t"))
    (home / "train.jsonl").write_text("\n".join(map(json.dumps, rows[:160])))
    pq.write_table(pa.Table.from_pylist(rows[:160]), home / "train.parquet")
    (home / "test.jsonl").write_text("\n".join(map(json.dumps, rows[160:])))
    (home / "test.txt").write_text("\n".join(row["text"] for row in rows[160:]))
    return home


def bag_of_words(rows):
    """Accuracy on the last 60 rows of logistic regression on the word counts of the first 160."""
    words = sorted({word for row in rows for word in row["words"]})
    counts = word_counts([row["text"] for row in rows], words)
    truth = torch.tensor([row["label"] == "cat" for row in rows]).float()
    weight = torch.zeros(len(words), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=50)

    def loss():
        optimiser.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(counts[:160] @ weight, truth[:160])
        (value + 1e-3 * weight.square().sum()).backward()
        return value

    optimiser.step(loss)
    return float(((counts[160:] @ weight > 0) == truth[160:].bool()).float().mean())


def train(unmask, trained, source, output, *options):
    return unmask(
        "classify", "train", "--model", trained, "--input", source, "--output", output, "--device", "cpu", *options
    )


@pytest.fixture(scope="module")
def made(trained, files, tmp_path_factory):
    """The folder of a classifier of texts."""
    from unmask.cli.classify import train as command

    folder = tmp_path_factory.mktemp("made") / "classifier"
    command(files / "train.csv", folder, model=trained, device="cpu", lr=5e-3, epochs=8.0)
    return folder


def predict(unmask, folder, source, *options):
    return unmask("classify", "predict", "--model", folder, "--input", source, "--device", "cpu", *options)


def test_a_classifier_learns_the_order_of_words_that_a_bag_of_words_cannot(unmask, made, files, rows):
    done = predict(unmask, made, files / "test.jsonl", "--label", "label", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    floor = bag_of_words(rows)
    assert floor < 0.7 < 0.95 < answer["scores"]["macro_f1"]["value"], (floor, answer["scores"])
    assert answer["scores"]["macro_f1"]["low"] > floor and answer["scores"]["documents"] == 60
    for row, found in zip(rows[160:], answer["rows"], strict=True):
        assert found["id"] == row["id"] and found["label"] == max(
            found["probabilities"], key=found["probabilities"].get
        )
        assert found["probability"] == found["probabilities"][found["label"]]
        assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_every_output_holds_the_same_predictions(unmask, made, files, tmp_path):
    lines = predict(unmask, made, files / "test.jsonl", "--keep", "tags", "--batch-size", 7)
    printed = [json.loads(line) for line in lines.out.splitlines()]
    for suffix in (".jsonl", ".csv", ".parquet"):
        options = ("--keep", "tags", "--batch-size", 7, "-o", tmp_path / f"p{suffix}")
        assert predict(unmask, made, files / "test.jsonl", *options).code == 0
    assert [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()] == printed
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == printed
    with open(tmp_path / "p.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["label"] for row in table] == [row["label"] for row in printed]
    assert [json.loads(row["probabilities"]) for row in table] == [row["probabilities"] for row in printed]
    assert [json.loads(row["tags"]) for row in table] == [row["tags"] for row in printed]
    plain = predict(unmask, made, files / "test.txt", "--json")
    assert [row["label"] for row in json.loads(plain.out)["rows"]] == [row["label"] for row in printed]


def test_every_format_of_rows_trains_the_same_classifier(unmask, trained, files, tmp_path):
    options = ("--steps", 2, "--batch-size", 8, "--seed", 3, "--valid", files / "test.jsonl", "--json")
    found = []
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        done = train(unmask, trained, files / f"train.{suffix}", tmp_path / suffix, *options, "--checkpoint", "last")
        assert done.code == 0, done.err
        found.append(json.loads(done.out) | {"output": None})
        weights = (tmp_path / suffix / "model.safetensors").read_bytes()
        assert weights == (tmp_path / "csv" / "model.safetensors").read_bytes()
    assert all(facts == found[0] for facts in found)
    assert found[0]["rows"] == 160 and found[0]["valid"]["documents"] == 60 and len(found[0]["losses"]) == 2


def test_words_have_labels_of_their_own(unmask, trained, files, rows, tmp_path):
    fields = ("--tokens", "--text", "words", "--label", "tags")
    choice = ("--freeze", "--class-weights", "balanced", "--epochs", "6", "--lr", "0.02", "--valid-fraction", "0.2")
    done = train(unmask, trained, files / "train.jsonl", tmp_path / "tagger", *fields, *choice)
    assert done.code == 0, done.err
    assert "128 rows" in done.out and "macro F1" in done.out and "nats/word" in done.err
    found = predict(unmask, tmp_path / "tagger", files / "test.jsonl", "--label", "tags", "-o", tmp_path / "tags.csv")
    assert found.code == 0, found.err
    assert "# F1 of 60 rows" in found.out and "who" in found.out
    with open(tmp_path / "tags.csv", newline="") as file:
        for row, line in zip(rows[160:], csv.DictReader(file), strict=True):
            assert json.loads(line["words"]) == row["words"]
            assert len(json.loads(line["labels"])) == len(json.loads(line["probabilities"])) == len(row["words"])
    (tmp_path / "w.csv").write_text("t\nthe cat sees my aunt\n")  # words as a text with spaces
    spaced = predict(unmask, tmp_path / "tagger", tmp_path / "w.csv", "--text", "t", "--json")
    assert json.loads(spaced.out)["rows"][0]["words"] == ["the", "cat", "sees", "my", "aunt"]


def test_options_have_an_effect(unmask, trained, files, tmp_path):
    long = [json.dumps({"text": "the cat sees " * (30 if n == 1 else 1), "label": n % 2}) for n in range(4)]
    (tmp_path / "long.jsonl").write_text("\n".join(long))
    few = ("--steps", 1, "--valid-fraction", 0, "--no-freeze", "--class-weights", "none")
    refused = train(unmask, trained, tmp_path / "long.jsonl", tmp_path / "a", *few)
    assert refused.code == 1 and "long.jsonl:2: the row has" in refused.err and "--truncate" in refused.err
    done = train(unmask, trained, tmp_path / "long.jsonl", tmp_path / "a", *few, "--truncate", "--trust-remote-code")
    assert done.code == 0 and "--valid FILE" in done.err, done.err
    assert predict(unmask, tmp_path / "a", tmp_path / "long.jsonl").code == 1
    assert predict(unmask, tmp_path / "a", tmp_path / "long.jsonl", "--truncate").code == 0
    copies = train(unmask, trained, files / "train.csv", tmp_path / "b", "--steps", 1, "--valid", files / "train.csv")
    assert "are in training and in validation" in copies.err


@pytest.mark.parametrize(
    "content, options, message",
    [
        ("text,tag\na,x\nb,y", (), "no field 'label'. .*It has: text, tag.*--label"),
        ("body,label\na,x\nb,y", (), "no field 'text'.*--text"),
        ("text,label\na,x\nb,x", (), "all have the label 'x'"),
        ("text,label\na,x\n ,y", (), "rows.csv:.*is empty"),
        ("text,label\na,x\nb,", (), "holds no label"),
        ("text,label\n", (), "holds no rows"),
        ("text,label\na,x\nb,y", ("--tokens", "--valid", "unseen.csv"), "'z' does not occur in the training rows"),
        ("text,label\na,x\nb,y", ("--valid-fraction", "1.5"), "below 1"),
        ("text,label\na,x\nb,y", ("--epochs", "0"), "must be above zero"),
    ],
)
def test_an_error_says_what_to_type_and_leaves_nothing(
    unmask, trained, tmp_path, monkeypatch, content, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(content)
    (tmp_path / "unseen.csv").write_text("text,label\nc,z\n")
    done = train(unmask, trained, "rows.csv", "made", *options)
    assert done.code == 1 and re.search(message, done.err), done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "unseen.csv"]


def test_folders_and_files_that_do_not_fit_are_refused(unmask, trained, made, files, tmp_path):
    again = train(unmask, trained, files / "train.csv", made)
    assert again.code == 1 and "exists already" in again.err
    assert train(unmask, trained, tmp_path / "none.csv", tmp_path / "x").code == 1
    nothing = predict(unmask, trained, files / "test.jsonl")
    assert nothing.code == 1 and "unmask classify train" in nothing.err
    suffix = predict(unmask, made, files / "test.jsonl", "-o", tmp_path / "p.xlsx")
    assert suffix.code == 1 and ".parquet" in suffix.err
    unknown = predict(unmask, made, files / "test.jsonl", "--label", "id")
    assert unknown.code == 1 and "does not occur in the training rows" in unknown.err
    absent = predict(unmask, made, files / "test.jsonl", "--keep", "nothing", "-o", tmp_path / "p.csv")
    assert absent.code == 1 and "no field 'nothing'" in absent.err and not (tmp_path / "p.csv").exists()
    lines = predict(unmask, made, files / "test.txt", "--label", "label")
    assert lines.code == 1 and "no rows with fields" in lines.err


def test_other_commands_describe_or_refuse_a_classifier(unmask, made):
    described = unmask("info", made)
    assert described.code == 0 and "UnmaskForSequenceClassification" in described.out, described.err
    assert "labels of texts" in described.out and "cat, other" in described.out
    refused = unmask("fill", "the [MASK]", "--model", made)
    assert refused.code == 1 and "no vocabulary head" in refused.err
