"""`unmask samples` measures files of texts and of rows."""

import json

import pytest


def test_rows_with_references_and_blanks(unmask, tmp_path):
    rows = tmp_path / "filled.jsonl"
    lines = [
        {"prompt": "the [MASK] sees", "text": "the cat sees", "truth": "the cat sees"},
        {"prompt": "a [MASK]", "text": "a cat", "truth": "a dog"},
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = json.loads(
        unmask("samples", rows, "--reference", "truth", "--prompt", "prompt", "--mask", "[MASK]", "--json").out
    )
    assert report["exact_match"]["value"] == report["infill_accuracy"]["value"] == 0.5 and report["samples"] == 2
    shown = unmask("samples", rows, "--field", "truth", "--unit", "characters")
    assert "distinct 1" in shown.out and "characters" in shown.out
    assert "and gold is needed" in unmask("samples", rows, "--reference", "gold").err


def test_answers_of_a_task_are_checked(unmask, tmp_path):
    rows = tmp_path / "answers.jsonl"
    lines = [{"prompt": "0-1 1-2=", "answer": "aba", "text": text} for text in ("abc", "aab", "aba")]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = json.loads(unmask("samples", rows, "--task", "graph_colouring", "--reference", "answer", "--json").out)
    assert report["valid"]["value"] == pytest.approx(2 / 3) and report["exact_match"]["value"] == pytest.approx(1 / 3)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A folder with a random GPT-2 of characters."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("judge")
    words = {letter: number for number, letter in enumerate("?abcdefghijklmnopqrstuvwxyz ")}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)
    config = transformers.GPT2Config(vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_judge_reads_texts_of_lines(unmask, judge, tmp_path):
    texts, humans = tmp_path / "samples.txt", tmp_path / "humans.txt"
    texts.write_text("the cat sees\na dog finds\n" * 10)
    humans.write_text("the dog sees\na cat finds\n" * 10)
    options = ["--judge", judge, "--device", "cpu", "--dtype", "float32", "--seed", 1]
    report = json.loads(unmask("samples", texts, *options, "--unit", "tokens", "--json").out)
    assert report["mean_length"] == 11.5 and 15 < report["generative_perplexity"]["value"] < 60
    assert "name a causal language model" in unmask("samples", texts, "--unit", "tokens").err
    pytest.importorskip("mauve")
    both = unmask("samples", texts, *options, "--mauve", humans, "--json")
    assert 0 <= json.loads(both.out)["mauve"] <= 1, both.err
