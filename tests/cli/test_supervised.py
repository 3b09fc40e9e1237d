"""Prompts with answers, from rows to figures: prepare, train, generate, evaluate."""

import json

import pytest

from tests.data.supervised_rows import chat_tokenizer, write_rows
from unmask.build.run import train
from unmask.config.tree import load_config
from unmask.data.corpus.row_shapes import WHAT_A_PROMPT_HOLDS
from unmask.data.preparation import Prepared
from unmask.export.hub_card import hub_card
from unmask.runs import load_run
from unmask.text.loading import load

WORDS = ("cat", "dog", "owl", "hen", "fox", "ant", "bee", "cow")
SAYS = ("mews", "barks", "hoots", "clucks", "yaps", "bites", "hums", "moos")


def answers():
    return [
        {"prompt": f"{greeting}, what does the {word} do?", "answer": f" it {says}", "id": number}
        for number, greeting in enumerate(("hi", "hello", "hey", "dear", "well", "now"))
        for word, says in zip(WORDS, SAYS, strict=True)
    ]


def chats():
    return [
        {"messages": [{"role": "user", "content": f"the {word}?"}, {"role": "assistant", "content": says}]}
        for word, says in zip(WORDS, SAYS, strict=True)
    ]


def trained_on(folder, rows, steps, *overrides):
    write_rows(folder / "rows.jsonl", rows)
    base = [
        "data.kind=supervised", f"data.source={folder / 'rows.jsonl'}", f"run={folder / 'run'}", "data.vocab_size=400",
        "data.block_size=64", "data.valid_fraction=0.2", "model.preset=null", "model.d_model=32", "model.num_layers=2",
        "model.nhead=2", "model.max_length=128", "optim.lr=0.01", "optim.name=muon", f"train.steps={steps}",
        "train.batch_size=16", f"train.evaluate_every={steps}", f"train.checkpoint_every={steps}", "train.evaluate_rows=8",
        "train.precision=fp32", "objective.normaliser=answer",
    ]  # fmt: skip
    train(load_config(overrides=[*base, *overrides]))
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_on(tmp_path_factory.mktemp("answers"), answers(), 4)


@pytest.fixture(scope="module")
def chat_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chats")
    return trained_on(folder, chats(), 2, f"data.tokenizer={chat_tokenizer(folder / 'tokenizer')}")


def test_prepare_writes_a_store_that_trains_without_its_source(unmask, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", answers())
    answer = unmask("prepare", rows, "--kind", "supervised", "--out", tmp_path / "store", "--vocab-size", 300)
    assert answer.code == 0, answer.err
    assert "data.kind=supervised" in answer.out and Prepared.open(tmp_path / "store").train_documents > 30
    refused = unmask("prepare", rows, "--kind", "supervised", "--out", tmp_path / "other", "--field", "prompt")
    assert refused.code != 0 and "field='prompt' has no effect" in refused.err
    refused = unmask("train", f"data.store={tmp_path / 'store'}", "data.kind=text", f"run={tmp_path / 'run'}")
    assert refused.code != 0 and "data.kind (made with 'supervised', now 'text')" in refused.err


def test_rows_of_training_data_are_prompts(unmask, run, chat_run, tmp_path):
    for folder, rows in ((run, answers()[:3]), (chat_run, chats()[:3])):
        source = write_rows(tmp_path / "rows.jsonl", rows)
        answer = unmask("generate", "--input", source, "--model", folder, "--new-tokens", 4, "--eos", "free", "--jsonl")
        assert answer.code == 0, answer.err
        lines = [json.loads(line) for line in answer.out.splitlines()]
        shown = [row.get("prompt") or f"<user>{row['messages'][0]['content']}[EOS]<assistant>" for row in rows]
        assert [line["prompt"] for line in lines] == shown
        assert all(line["text"].startswith(line["prompt"]) for line in lines)


def test_a_chat_needs_a_template_and_a_row_a_prompt(unmask, run, tmp_path):
    source = write_rows(tmp_path / "chats.jsonl", chats())
    answer = unmask("generate", "--input", source, "--model", run)
    assert answer.code != 0 and "need a tokenizer with a chat template" in answer.err
    source = write_rows(tmp_path / "rows.jsonl", [{"text": "a"}])
    answer = unmask("generate", "--input", source, "--model", run)
    assert answer.code != 0 and WHAT_A_PROMPT_HOLDS in " ".join(answer.err.split())


def test_evaluate_reports_exact_match_and_bound_of_answers(unmask, run, chat_run, tmp_path):
    for folder, rows in ((run, answers()), (chat_run, chats())):
        source = write_rows(tmp_path / "rows.jsonl", rows)
        answer = unmask("evaluate", "--model", folder, "--data", source, "--samples", 2, "--documents", 5, "--json")
        assert answer.code == 0, answer.err
        report = json.loads(answer.out)
        figures = report["answers"]
        assert figures["rows"] == 5 and report["data"] == str(source) and "models" not in report
        assert (
            0 <= figures["exact_match"]["low"] <= figures["exact_match"]["value"] <= figures["exact_match"]["high"] <= 1
        )
        assert figures["nats_per_token"]["low"] < figures["nats_per_token"]["value"] < 20
        assert "held-out answers" not in hub_card(load_run(folder), "a")  # a part of other rows
        table = unmask("evaluate", "--model", folder, "--samples", 1)
        assert table.code == 0, table.err
        assert "exact match" in table.out and "Answers given their prompts" in table.out
        assert "held-out answers" in hub_card(load_run(folder), "a")
        assert load(folder).evaluate(source, samples=2, documents=5)["answers"] == figures
    with pytest.raises(ValueError, match="texts without them were given"):
        load(run).evaluate(["a text"])


@pytest.mark.slow
@pytest.mark.parametrize("tail", [False, True])
def test_answers_are_learnt_and_with_a_tail_of_eos_generation_ends_by_itself(tmp_path, unmask, tail):
    """Greetings differ between training and validation, and answers depend on the animal alone."""
    folder = trained_on(tmp_path, answers(), 400, f"data.eos_tail={str(tail).lower()}", "data.workers=1")
    report = load(folder).evaluate(samples=2)["answers"]
    assert report["exact_match"]["value"] > 0.8 and report["nats_per_token"]["value"] < 0.5
    if tail:  # otherwise training has no position after the end of an answer
        prompt = answers()[0]["prompt"]
        options = ("--new-tokens", 20, "--eos", "free", "--order", "top_prob", "--temperature", 0)
        assert unmask("generate", "-p", prompt, "--model", folder, *options).out.strip() == f"{prompt} it mews"
