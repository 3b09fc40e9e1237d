"""``unmask score``: every source, every kind of row, spans in context, and minimal pairs."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.data.store.token_store import TokenStore
from unmask.text.loading import load

GOOD, BAD = "the cat sees the dog", "cat the the sees dog"


def rows_of(answer):
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def test_rows_per_sentence_word_and_token_sum_to_one_score(unmask, trained):
    sentence, words, tokens = (
        rows_of(unmask("score", GOOD, "--model", trained, "--form", "word_l2r", "--jsonl", "--per", per))
        for per in ("sentence", "word", "token")
    )
    assert (sentence[0]["id"], sentence[0]["words"], sentence[0]["bytes"]) == ("1", 5, len(GOOD))
    assert sentence[0]["bits"] == pytest.approx(sentence[0]["nats"] / np.log(2))
    assert [row["text"] for row in words] == GOOD.split() and "".join(row["text"] for row in tokens) == GOOD
    assert sum(row["tokens"] for row in words) == len(tokens) == sentence[0]["tokens"]
    for rows in (words, tokens):
        assert sum(row["nats"] for row in rows) == pytest.approx(sentence[0]["nats"])
        assert sum(row["bytes"] for row in rows) >= len(GOOD) - 4  # the spaces between words may belong to none
    table = unmask("score", GOOD, "--model", trained, "--per", "word").out
    assert "nats per word" in table and "sees" in table


@pytest.mark.parametrize("form", ["original", "word_l2r", "whole_word", "sentence_l2r"])
def test_forms_differ_and_are_named_in_the_help(unmask, trained, form):
    assert form in unmask("score", "--help").out
    row = rows_of(unmask("score", GOOD, "--model", trained, "--form", form, "--jsonl"))[0]
    assert row["nats"] == pytest.approx(load(trained, device="cpu").score(GOOD, form=form).nats)


def test_files_of_rows(unmask, trained, tmp_path):
    expected = rows_of(unmask("score", GOOD, BAD, "--model", trained, "--jsonl"))
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        answer = unmask("score", GOOD, BAD, "--model", trained, "--out", tmp_path / name)
        assert answer.code == 0 and answer.out == "" and "Wrote 2 rows" in answer.err
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == expected
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == expected
    with open(tmp_path / "a.csv", newline="") as file:
        assert [float(row["nats"]) for row in csv.DictReader(file)] == [row["nats"] for row in expected]
    answer = unmask("score", GOOD, "--model", trained, "--out", tmp_path / "a.xlsx")
    assert answer.code == 1 and ".parquet" in answer.err


def test_every_source_of_texts_scores_the_same(unmask, trained, tmp_path):
    import pyarrow as pa

    texts = [GOOD, BAD]
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    (tmp_path / "a.csv").write_text("id,body\n" + "".join(f'1,"{text}"\n' for text in texts))
    pq.write_table(pa.table({"body": texts}), tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.txt").write_text("\n".join(texts) + "\n")
    expected = [row["nats"] for row in rows_of(unmask("score", *texts, "--model", trained, "--jsonl"))]
    for name in ("a.txt", "a.jsonl", "a.csv", "a.parquet", "folder"):
        found = rows_of(unmask("score", "--input", tmp_path / name, "--field", "body", "--model", trained, "--jsonl"))
        assert [row["nats"] for row in found] == pytest.approx(expected, rel=1e-5), name
        assert all(row["id"].startswith(("a.", "b.txt")) for row in found)


def test_a_prepared_store_is_scored_as_it_is(unmask, trained):
    found = rows_of(unmask("score", "--input", trained / "data" / "valid", "--model", trained, "--jsonl"))
    assert found[0]["id"] == "valid:0" and any("+64" in row["id"] for row in found)
    assert not any(row["unscored_tokens"] for row in found)
    store, model = TokenStore.open(trained / "data" / "valid"), load(trained, device="cpu")
    assert sum(row["tokens"] for row in found) == store.n_tokens - store.n_documents
    row = next(row for row in found if row["exact_text"])
    assert model.score(row["text"]).scored == row["tokens"] and row["bytes"] == len(row["text"].encode())
    answer = unmask("score", "a", "--input", trained / "data" / "valid", "--model", trained)
    assert answer.code == 1 and "token store" in answer.err


def test_ready_ids_are_scored(unmask, tmp_path):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "ids.npy", draw.integers(0, 20, (60, 12)))
    run = tmp_path / "run"
    tree = {
        "run": str(run),
        "data": {"source": str(tmp_path / "ids.npy"), "tokenizer": "ids", "vocab_size": 25, "block_size": 16, "valid_fraction": 0.2},
        "model": {"preset": None, "d_model": 16, "num_layers": 1, "nhead": 1, "max_length": 16},
        "train": {"steps": 2, "batch_size": 4, "precision": "fp32"},
    }  # fmt: skip
    train(config_of(tree))
    found = rows_of(unmask("score", "--input", tmp_path / "ids.npy", "--model", run, "--per", "token", "--jsonl"))
    assert len(found) == 60 * 12 and found[0]["token_id"] == int(found[0]["text"])
    stored = rows_of(unmask("score", "--input", run / "data" / "valid", "--model", run, "--jsonl"))
    assert all(row["tokens"] == 12 for row in stored)


def test_spans_are_scored_given_their_context(unmask, trained, tmp_path):
    rows = [
        {"prompt": "the cat sees", "answer": " the dog"},
        {"before": "the cat", "middle": " sees", "after": " the dog"},
    ]
    (tmp_path / "spans.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = rows_of(unmask("score", "--spans", "--input", tmp_path / "spans.jsonl", "--model", trained, "--jsonl"))
    options = ("--before", "the cat", "--after", " the dog", "--model", trained, "--jsonl")
    given = rows_of(unmask("score", " sees", *options))[0]
    whole = rows_of(unmask("score", GOOD, "--model", trained, "--jsonl"))[0]
    assert found[1]["nats"] == pytest.approx(given["nats"], rel=1e-5) and found[0]["text"] == " the dog"
    assert found[0]["tokens"] + found[1]["tokens"] < whole["tokens"]
    chain = rows_of(unmask("score", " sees", *options, "--form", "sentence_l2r"))[0]["nats"]
    bound = rows_of(unmask("score", " sees", *options, "--bound", "--samples", 200))[0]
    exact = rows_of(unmask("score", " sees", *options, "--exact"))[0]["nats"]
    assert bound["nats"] - 5 * bound["monte_carlo_error"] - 1e-6 <= exact and chain < 0
    answer = unmask("score", "--spans", "--model", trained)
    assert answer.code == 1 and "--input" in answer.err


def test_minimal_pairs_of_blimp_and_of_tables(unmask, trained, tmp_path):
    pairs = [(GOOD, BAD, "order"), (BAD, GOOD, "order"), (GOOD, GOOD, "same")]
    lines = [
        {"sentence_good": good, "sentence_bad": bad, "UID": uid, "pairID": str(n), "linguistics_term": "t" + uid}
        for n, (good, bad, uid) in enumerate(pairs)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "p.tsv").write_text("good\tbad\tparadigm\n" + "".join("\t".join(pair) + "\n" for pair in pairs))
    for name in ("p.jsonl", "p.tsv"):
        report = json.loads(unmask("score", "--pairs", tmp_path / name, "--model", trained, "--json").out)
        by = {key: each["value"] for key, each in report["accuracy_by_paradigm"].items()}
        assert by == {"order": 0.5, "same": 0.5} and report["accuracy"]["value"] == 0.5
        assert report["accuracy"]["low"] < 0.2 and [row["success"] for row in report["rows"]] == [1.0, 0.0, 0.5]
    shown = unmask("score", "--pairs", tmp_path / "p.jsonl", "--model", trained, "--out", tmp_path / "scores.jsonl").out
    assert "order\t2\t50.0%" in shown and "1 of 3 pairs are ties" in shown and "phenomenon" in shown
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [score["id"] for score in scores] == ["0", "1", "2"] and scores[0]["good_nats"] > scores[0]["bad_nats"]


def test_what_contradicts_is_refused(unmask, trained, block_causal, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"good": "a"}\n')
    (tmp_path / "p.txt").write_text("a b\n")
    for arguments, remedy in (
        (("a", "--bound", "--exact"), "choose one"),
        (("a", "--bound", "--form", "word_l2r"), "choose one"),
        (("a", "--bound", "--per", "token"), "--per token"),
        (("a", "--form", "words"), "word_l2r"),
        (("a", "--pairs", tmp_path / "p.jsonl"), "its own sentences"),
        (("--pairs", tmp_path / "p.jsonl"), "sentence_bad"),
        (("--pairs", tmp_path / "p.txt"), "JSON lines"),
        (("the cat " * 9, "--exact"), "1 to 16"),
    ):
        answer = unmask("score", *arguments, "--model", trained)
        assert answer.code == 1 and remedy in answer.err, (arguments, answer.err)
    answer = unmask("score", GOOD, "--model", block_causal)
    assert answer.code == 1 and "--bound" in answer.err
    assert unmask("score", GOOD, "--model", block_causal, "--bound", "--samples", 4).code == 0
    assert unmask("score", GOOD, "--model", block_causal, "--form", "sentence_l2r").code == 0


def test_evaluate_draws_the_curve_over_noise_levels(unmask, trained):
    options = ("--model", trained, "--documents", 20, "--no-baselines", "--samples", 1, "--curve", 4)
    levels = json.loads(unmask("evaluate", *options, "--json").out)["noise_levels"]
    assert [level["rate"] for level in levels] == [0.25, 0.5, 0.75, 1.0]
    assert levels[0]["nats_per_token"]["value"] < levels[-1]["nats_per_token"]["value"]
    assert "noise level" in unmask("evaluate", *options).out
    answer = unmask("evaluate", "--model", trained, "--curve", 0)
    assert answer.code == 1 and "1 or more" in answer.err


def test_a_hugging_face_model_is_scored_between_its_special_tokens(unmask, tmp_path):
    import torch
    from tokenizers import processors
    from transformers import BertConfig, BertForMaskedLM

    from unmask.data.tokenizing.kinds import train_tokenizer

    tokenizer = train_tokenizer("wordpiece", [GOOD, BAD] * 5, 80)
    names, bos, eos = tokenizer.special_tokens, tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend.post_processor = processors.TemplateProcessing(
        single=f"{names['bos']} $A {names['eos']}", special_tokens=[(names["bos"], bos), (names["eos"], eos)]
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    net = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes)).eval()
    net.save_pretrained(tmp_path / "bert")
    tokenizer.save(tmp_path / "bert")
    row = rows_of(unmask("score", GOOD, "--model", tmp_path / "bert", "--jsonl", "--device", "cpu"))[0]
    ids = torch.tensor([[bos, *tokenizer.encode(GOOD), eos]])
    total = 0.0
    for place in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            total += float(net(masked).logits[0, place].log_softmax(-1)[ids[0, place]])
    assert row["nats"] == pytest.approx(total, abs=1e-4) and row["unscored_tokens"] == 0
