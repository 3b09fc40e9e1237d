"""Every command has its documented effect, and its options change the result."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

from tests.cli.conftest import train_small
from unmask.config.tree import load_config
from unmask.contracts import SpecialIds
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.runs import load_run

SENTENCE = "the cat [MASK] the [MASK]."


def test_help_is_light():
    """The help of the whole and of every command comes without torch, Lightning, transformers or NumPy."""
    script = """
import sys
from unmask.cli.main import app
from typer.testing import CliRunner
for arguments in ([], *([command.name or command.callback.__name__] for command in app.registered_commands if command.callback.__name__ != "lm_eval")):
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, arguments
heavy = {"torch", "lightning", "transformers", "numpy", "matplotlib", "datasets", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_prepare_then_again(unmask, corpus, tmp_path):
    first = unmask(
        "prepare", corpus, "--out", tmp_path / "store", "--vocab-size", 300, "--valid-fraction", 0.2, "--json"
    )
    assert first.code == 0, first.err
    facts = json.loads(first.out)
    assert facts["vocab_size"] == 300 and facts["train_documents"] + facts["valid_documents"] == 60
    again = unmask("prepare", corpus, "--out", tmp_path / "store", "--vocab-size", 300, "--valid-fraction", 0.2)
    assert again.code == 0 and "validation" in again.out
    other = unmask("prepare", corpus, "--out", tmp_path / "store", "--vocab-size", 301)
    assert other.code == 1 and "vocab_size" in other.err


def test_print_config_reads_back_and_explains(unmask, tmp_path):
    shown = unmask("train", "--print-config", "--preset", "base", "train.steps=7")
    assert shown.code == 0
    (tmp_path / "config.yaml").write_text(shown.out)
    assert load_config(tmp_path / "config.yaml") == load_config(None, ["model.preset=base", "train.steps=7"])
    values = [line for line in shown.out.splitlines() if not line.endswith(":")]
    assert all("#" in line for line in values)


def test_train_from_a_file_with_overrides_and_again(unmask, corpus, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run: {tmp_path / 'run'}\ndata: {{source: {corpus}, vocab_size: 300, block_size: 16, valid_fraction: 0.2}}\n"
    )
    sizes = ("model.preset=null", "model.d_model=8", "model.num_layers=1", "model.nhead=2", "train.batch_size=4")
    first = unmask("train", config, *sizes, "train.steps=2")
    assert first.code == 0, first.err
    assert (tmp_path / "run" / "loss.png").read_bytes()[:4] == b"\x89PNG"
    more = unmask("train", config, *sizes, "train.steps=3")
    assert more.code == 0 and "step-00000003" in more.out


def test_evaluate_reports_a_bound_beside_baselines(unmask, trained):
    answer = unmask("evaluate", "--model", trained, "--json", "--samples", 2)
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    bits = {name: bound["bits_per_byte"] for name, bound in report["models"].items()}
    assert bits["trained"]["high"] < bits["unigram"]["low"], "a grammar this small is learnt in 120 steps"
    assert set(bits) == {"trained", "unigram", "two neighbours"}
    assert report["bits_per_byte_saved"]["unigram"]["value"] == pytest.approx(
        bits["unigram"]["value"] - bits["trained"]["value"]
    )
    table = unmask("evaluate", "--model", trained, "--samples", 2, "--no-baselines")
    assert table.code == 0 and "bits per byte" in table.out and "unigram" not in table.out
    few = json.loads(unmask("evaluate", "--model", trained, "--json", "--documents", 2, "--no-baselines").out)
    assert few["models"]["trained"]["documents"] == 2


def test_evaluate_on_other_text(unmask, trained, tmp_path):
    (tmp_path / "other.txt").write_text("the cat sees the moon.\n\na dog likes old trees.\n" * 20)
    answer = unmask(
        "evaluate", "--model", trained, "--data", tmp_path / "other.txt", "--unit", "line", "--json", "--no-baselines"
    )
    assert answer.code == 0, answer.err
    known = json.loads(answer.out)["models"]["trained"]["bits_per_byte"]["value"]
    (tmp_path / "noise.txt").write_text("zq xj vvk qqq wx.\n\nkjh gfd sap oiu.\n" * 20)
    noise = unmask(
        "evaluate", "--model", trained, "--data", tmp_path / "noise.txt", "--unit", "line", "--json", "--no-baselines"
    )
    assert json.loads(noise.out)["models"]["trained"]["bits_per_byte"]["value"] > 2 * known


def test_fill_shows_alternatives_and_fills_jointly(unmask, trained):
    answer = unmask("fill", SENTENCE, "--model", trained, "--json", "--top", 3)
    assert answer.code == 0, answer.err
    (filled,) = json.loads(answer.out)
    assert len(filled["blanks"]) == 2 and all(len(blank) == 3 for blank in filled["blanks"])
    for blank in filled["blanks"]:
        probabilities = [a["probability"] for a in blank]
        assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) <= 1 + 1e-6
    assert "[MASK]" not in filled["text"] and filled["steps"] == 2
    table = unmask("fill", SENTENCE, "--model", trained)
    assert table.code == 0 and filled["text"] in table.out


def test_fill_does_not_depend_on_the_other_texts(unmask, trained):
    alone = json.loads(unmask("fill", SENTENCE, "--model", trained, "--json").out)
    together = json.loads(
        unmask("fill", "a dog [MASK] my aunt [MASK] a stone.", SENTENCE, "--model", trained, "--json").out
    )
    assert together[1]["text"] == alone[0]["text"]


def test_fill_reads_lines(unmask, trained, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("the [MASK] sees\nmy [MASK]\n"))
    answer = unmask("fill", "-", "--model", trained, "--json")
    assert answer.code == 0 and len(json.loads(answer.out)) == 2


def test_generate_continues_and_repeats_itself_only_with_its_seed(unmask, trained):
    def text(*options: object) -> str:
        answer = unmask("generate", "--model", trained, "--prompt", "the cat", "--new-tokens", 12, *options)
        assert answer.code == 0, answer.err
        return answer.out

    assert text().startswith("the cat")
    assert text() == text() == text("--seed", 0)
    assert len({text(), text("--seed", 1), text("--temperature", 3.0), text("--top-k", 1), text("--steps", 1)}) == 5
    assert text("--confidence", "top_prob", "--temperature", 0) != text(
        "--confidence", "random", "--temperature", 0, "--steps", 2
    )


def test_generate_counts_forward_passes_and_writes_pages(unmask, trained, tmp_path):
    answer = unmask(
        "generate",
        "--model",
        trained,
        "--new-tokens",
        10,
        "--steps",
        4,
        "--samples",
        2,
        "--json",
        "--trace",
        tmp_path / "t.html",
    )
    rows = json.loads(answer.out)
    assert [row["steps_taken"] for row in rows] == [4, 4]
    page = (tmp_path / "t.html").read_text()
    assert page.lower().startswith("<!doctype html") and "http" not in page.split("<script")[0]
    unmask("generate", "--model", trained, "--new-tokens", 10, "--steps", 4, "--trace", tmp_path / "t.json")
    assert len(json.loads((tmp_path / "t.json").read_text())["events"]) == 10
    unmask("generate", "--model", trained, "--new-tokens", 10, "--steps", 4, "--trace", tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    refused = unmask("generate", "--model", trained, "--new-tokens", 10, "--trace", tmp_path / "t.svg")
    assert refused.code != 0 and ".png" in refused.err and not (tmp_path / "t.svg").exists()
    sure = json.loads(
        unmask(
            "generate", "--model", trained, "--new-tokens", 10, "--confidence", "top_prob", "--threshold", 0.0, "--json"
        ).out
    )
    assert sure[0]["steps_taken"] == 1
    watched = unmask("generate", "--model", trained, "--new-tokens", 6, "--watch")
    assert watched.code == 0 and "step" in watched.err


def test_score_is_the_pseudo_log_likelihood_and_ranks(unmask, trained):
    good, bad = "the cat sees the moon.", "moon the cat the sees."
    rows = json.loads(unmask("score", good, bad, "--model", trained, "--json").out)["rows"]
    assert rows[0]["nats"] > rows[1]["nats"]
    loaded = load_run(trained)
    (expected,) = pseudo_log_likelihood(loaded.model, [loaded.tokenizer.encode(good)], SpecialIds.of(loaded.tokenizer))
    assert rows[0]["nats"] == pytest.approx(float(np.nansum(expected)), abs=1e-4)
    bound = json.loads(unmask("score", good, "--model", trained, "--bound", "--samples", 200, "--json").out)["rows"]
    assert bound[0]["nats"] < rows[0]["nats"], "hidden context makes tokens less likely than full context does"
    assert 0 < bound[0]["monte_carlo_error"] < 0.2 * -bound[0]["nats"] and rows[0]["monte_carlo_error"] is None
    assert (rows[0]["unscored_tokens"], rows[0]["exact_text"]) == (0, True)
    table = unmask("score", good, "--model", trained, "--bound", "--samples", 8).out
    assert "±" in table and "unscored" in table


def test_unscored_tokens_are_shown_beside_all_figures(unmask, corpus, tmp_path):
    """A lower-casing word-piece tokenizer: its tokens spell no text exactly, and words it lacks are unknown."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = (
        tokenizers.normalizers.BertNormalizer(),
        tokenizers.pre_tokenizers.BertPreTokenizer(),
    )
    made.decoder = tokenizers.decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        ["the cat sees the moon. a dog finds a stone, my aunt likes old trees"] * 9,
        tokenizers.trainers.WordPieceTrainer(vocab_size=90, special_tokens=specials, show_progress=False),
    )
    made.save(str(tmp_path / "tokenizer.json"))
    run = train_small(corpus, tmp_path / "run", 2, tokenizer=str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text("the cat ☃ sees ☂ the moon.")
    arguments = ["evaluate", "--model", run, "--data", tmp_path / "text.txt", "--samples", 1]
    report = json.loads(unmask(*arguments, "--json").out)
    trained = report["models"]["trained"]
    assert (
        trained["unscored_tokens"] == report["accuracy"]["unscored_tokens"] == 2 and trained["altered_documents"] == 1
    )
    assert "bits_per_byte" not in trained and "bits_per_byte_saved" not in report
    shown = " ".join(unmask(*arguments).out.split())
    assert "2 unscored" in shown and "1 of 1 documents spell another text" in shown and "bits per byte │" not in shown
    held_out = json.loads(unmask("evaluate", "--model", run, "--samples", 1, "--json").out)["models"]["trained"]
    assert held_out["altered_documents"] == held_out["documents"] > 0
    rows = json.loads(unmask("score", "The cat.", "☃ ☂", "--model", run, "--json").out)["rows"]
    assert (
        [row["unscored_tokens"] for row in rows] == [0, 2]
        and rows[1]["nats"] is None
        and not any(row["exact_text"] for row in rows)
    )
    shown = " ".join(unmask("score", "The cat.", "☃ ☂", "--model", run).out.split())
    assert "1 of 2 texts have unknown words" in shown and "2 of 2 scores are not of the exact text" in shown


def test_best_and_last_checkpoints_can_be_chosen(unmask, trained):
    assert unmask("fill", SENTENCE, "--model", trained, "--checkpoint", "best").code == 0
    assert unmask("fill", SENTENCE, "--model", trained / "checkpoints").code == 0


def test_the_package_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "unmask", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0 and done.stdout.startswith("unmask ")


@pytest.mark.parametrize(
    "command", [("evaluate",), ("score", "a"), ("fill", "a [MASK]"), ("generate",), ("demo", "grid")]
)
def test_an_absent_device_is_refused_in_one_sentence(unmask, trained, command):
    model = () if command[0] == "demo" else ("--model", trained)
    code, out, err = unmask(*command, *model, "--device", "mps")
    assert code == 1 and out == "" and "'mps' is not available here; available: cpu" in err


def test_device_and_dtype_options_have_an_effect(unmask, trained):
    code, out, _ = unmask("score", "the cat sees", "--model", trained, "--device", "cpu", "--dtype", "bfloat16")
    assert code == 0 and "pseudo-log-likelihood" in out
