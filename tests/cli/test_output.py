"""Standard output is data: verbatim and complete in any encoding; suggested commands work."""

import io
import json
import os
import shlex
import subprocess
import sys
from functools import partial

import pytest
import torch
from rich.console import Console

from tests.data.families import family
from unmask.cli import screen
from unmask.cli.decoding import Decoding
from unmask.cli.main import replace_unwritable
from unmask.text.filling import fill_texts, fill_unknown_lengths

LONG = "The  CAT ☃ x: list[int] [/b] [red] " + "and a dog likes old trees " * 6


class Guess(torch.nn.Module):
    """Random logits, the same everywhere."""

    max_length = 512

    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(0)))

    def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
        return self.weight.expand(*x_t.shape, -1)


@pytest.mark.parametrize("name", ["words", "always", "bytes", "prepend", "fallback"])
def test_fill_keeps_the_text_around_the_blanks(name):
    tokenizer = family(name)
    mask, model = tokenizer.mask_token, Guess(len(tokenizer))
    texts = [f"日本 Paris IS {mask}, x\t{mask}. [SEP] Second  Sentence", "Complete ☃", f"{mask}"]

    def rules_for(**options):
        return partial(Decoding(**options).rules, model, tokenizer)

    answers = list(fill_texts(model, tokenizer, texts, rules_for(), top=3))
    first, second, third = answers
    assert first.text.startswith("日本 Paris IS ") and first.text.endswith(". [SEP] Second  Sentence")
    assert second.as_dict() == {"prompt": "Complete ☃", "text": "Complete ☃", "steps": 0, "blanks": []}
    assert third.text and len(first.blanks) == 2 and "\ufffd" not in "".join(a.text for a in answers)
    greedy = rules_for(order="top_prob", temperature=0.0)
    alone = list(fill_texts(model, tokenizer, texts[2:], greedy, top=1))
    assert alone[0].text == list(fill_texts(model, tokenizer, texts, greedy, top=1))[2].text
    one = list(fill_unknown_lengths(model, tokenizer, [f"The CAT {mask}!", "Complete"], rules_for(), longest=3, top=2))
    assert one[0].text.startswith("The CAT ") and one[0].text.endswith("!") and one[1].text == "Complete"


def test_a_text_without_blanks_is_refused_alone_and_kept_among_others(unmask, trained, tmp_path):
    (tmp_path / "texts.txt").write_text("No Blank here\nthe [MASK] sees\n")
    answer = unmask("fill", "--input", tmp_path / "texts.txt", "--model", trained, "--jsonl")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert len(rows) == 2 and rows[0]["text"] == "No Blank here" and rows[0]["steps"] == 0
    assert unmask("fill", "No Blank here", "--model", trained).code == 1
    assert unmask("fill", "No Blank here", "--model", trained, "--longest", 3).code == 1
    none = unmask("fill", "a", "b", "--model", trained, "--jsonl")
    assert [json.loads(line)["text"] for line in none.out.splitlines()] == ["a", "b"]


def test_results_in_a_pipe_are_neither_wrapped_nor_styled_nor_cut(unmask, trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    filled = unmask("fill", f"{LONG[:100]}[MASK]\n", "--model", trained)
    assert filled.code == 0 and filled.out.splitlines()[0].startswith(LONG[:100]) and "\x1b" not in filled.out
    scored = unmask("score", LONG[:100], "x: list[int] [/b]\tz", "--model", trained)
    title, names, *rows = scored.out.splitlines()
    assert (
        title.startswith("# ")
        and names.split("\t") == ["text", "total", "per token", "tokens", "unscored"]
        and "\x1b" not in scored.out
    )
    assert [row.split("\t")[0] for row in rows] == [LONG[:100], "x: list[int] [/b]\\tz"]
    assert all(float(row.split("\t")[1]) < 0 for row in rows)
    report = unmask("evaluate", "--model", trained, "--samples", 1, "--documents", 3)
    assert "\x1b" not in report.out and all(
        len(line.split("\t")) == 4 for line in report.out.splitlines() if "\t" in line
    )
    written = unmask(
        "generate", "--prompt", "The CAT [/b]", "--prompt", LONG[:70], "--new-tokens", 3, "--model", trained
    )
    assert "\nThe CAT [/b]" in written.out and f"\n{LONG[:70]}" in written.out and f"── {LONG[:70]}" in written.out


@pytest.mark.parametrize("width", [12, 30, 60, 200])
def test_a_narrow_terminal_folds_text_and_keeps_figures(monkeypatch, width):
    out = io.StringIO()
    monkeypatch.setattr(screen, "RESULTS", Console(file=out, width=width, force_terminal=True, color_system=None))
    monkeypatch.setattr(screen, "on_terminal", lambda: True)
    screen.table("A [/b] title", ["text", "total", "per token"], [["x: list[int] [/b] " * 5, "-123.45", "-0.987"]])
    screen.show("y: list[int] [/b] " * 9, style="bold")
    screen.heading("3 · [/b]")
    shown = out.getvalue()
    assert "-123.45" in shown and "-0.987" in shown and "per token" in shown and "…" not in shown
    assert "y: list[int] [/b] " * 9 in shown


def test_characters_outside_the_encoding_are_escaped_and_json_is_ascii(monkeypatch):
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding="cp1252", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    replace_unwritable()
    screen.show("日本 é the end")
    screen.print_json_line({"text": "日本 é"})
    screen.table("日本", ["日", "n"], [["é", "1"]])
    lines = raw.getvalue().decode("cp1252").splitlines()
    assert lines[0] == "\\u65e5\\u672c é the end" and json.loads(lines[1]) == {"text": "日本 é"} and lines[1].isascii()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw := io.BytesIO(), encoding="utf-8", write_through=True))
    screen.print_json({"text": "日本"})
    assert "日本" in raw.getvalue().decode()


def test_a_real_process_with_an_ascii_console_forty_columns_wide(trained):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "40", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "unmask.cli.main", "fill", f"日本 {LONG[:80]} [MASK]", "--model", str(trained)]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.decode("ascii")
        .splitlines()[0]
        .startswith(f"\\u65e5\\u672c {LONG[:80]} ".encode("ascii", "backslashreplace").decode())
    )


def steps_shown(text: str, *introductions: str) -> list[list[str]]:
    """The commands of an output, as a shell would read them."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [
        line.removeprefix(start).strip() if start.endswith(":") else line
        for line in lines
        for start in introductions
        if line.startswith(start)
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith("unmask ")]


def test_the_suggested_next_commands_repeat_the_options(unmask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my texts"
    folder.mkdir()
    (folder / "a b.jsonl").write_text(
        "".join(json.dumps({"body": f"the cat number {i} sees a house [x]"}) + "\n" for i in range(60))
    )
    made = unmask(
        "prepare",
        folder / "a b.jsonl",
        "--out",
        "a store",
        "--vocab-size",
        300,
        "--field",
        "body",
        "--valid-fraction",
        0.2,
    )
    assert made.code == 0, made.err
    (step,) = steps_shown(made.out, "Train on it:")
    tiny = [
        "model.preset=null",
        "model.d_model=16",
        "model.num_layers=1",
        "model.nhead=2",
        "model.rotary_emb_dim=4",
        "data.block_size=16",
    ]
    trained = unmask(*step, *tiny, "train.steps=1", "train.batch_size=2", "train.evaluate_rows=2", "run=runs/a run")
    assert trained.code == 0, trained.err
    before = (tmp_path / "a store" / "prepared.json").stat().st_mtime_ns
    (step,) = steps_shown(trained.out, "Next:")
    evaluated = unmask(*step, "--samples", 1, "--json")
    assert evaluated.code == 0, evaluated.err
    assert (tmp_path / "a store" / "prepared.json").stat().st_mtime_ns == before, "nothing is prepared anew"


def test_the_commands_suggested_by_a_demonstration_work(unmask, trained, tmp_path, monkeypatch, capsys):
    from unmask.cli.demos import text_demo as text

    run = tmp_path / "a run [b]"
    run.symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "YOUR_TEXT.txt").write_text("the cat sees.\n\n" * 9)
    text._list_results(run)
    shown = capsys.readouterr().out
    assert f"  {run / 'loss.png'}  " in shown
    fill, generate, train = steps_shown(shown, "unmask fill", "unmask generate", "unmask train") or ([], [], [])
    for step, more in ((fill, ()), (generate, ("--new-tokens", 4, "--steps", 2)), (train, ("--print-config",))):
        done = unmask(*step, *more)
        assert done.code == 0 and done.out, done.err
